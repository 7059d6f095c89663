"""A build that sells less is stopped at 5 % of the traffic; a good one is promoted.

Two real servers, each behind the front pod's own Envoy, a third Envoy for the load balancer's
weights, and a real Prometheus that scrapes them and is asked what the AnalysisTemplates ask, over
shorter windows. What a query makes of a fault is also shown on recorded series, by promtool.
"""

import http.client
import json
import shutil
import subprocess
import threading
from contextlib import ExitStack

import msgspec
import pytest
import yaml

from adcore.catalog import Catalog
from tests import catalogs
from tests.canary import (
    CANARY,
    FAILED,
    INCONCLUSIVE,
    NAMESPACE,
    STABLE,
    SUCCESSFUL,
    condition,
    metrics_of,
    require_prometheus,
    roll_out,
    start_prometheus,
)
from tests.envoy_proxy import by_name, require_envoy, route_of, start_envoy
from tests.kube import find, rendered
from tests.kube_sums import of_kind
from tests.redis_server import RedisServer
from tests.serving import publish, start_server, wait_until

pytestmark = pytest.mark.process

SITES = range(10, 20)
PLACEMENTS = [{"divName": f"at-{site}", "siteId": site, "adTypes": [1]} for site in SITES]
BODY = json.dumps({"placements": PLACEMENTS, "user": {"key": "reader"}}).encode()
SHARE_AT_5 = 5  # percent
LOOK_EVERY = 25  # requests to the new pods


def catalog(filled: int, price_micros: int = 8_000_000) -> Catalog:
    """One line item, on so many of ten sites: each request fills the same share."""
    records = catalogs.minimal_records()
    records["sites"] = [{"id": n, "name": f"{n}", "domain": f"s{n}.example"} for n in SITES]
    records["line_items"] = records["line_items"][:1]
    records["advertisers"][0]["labels"] = []  # which would be one winner a request
    [line] = records["line_items"]
    line["rate"]["price_micros"] = price_micros
    line["targeting"] = {"dimension": "site", "include": [*SITES][:filled]}
    return msgspec.convert(records, Catalog)


GOOD = catalog(9)
BUILDS = {
    "good": (GOOD, "promoted"),
    "fills 20 % less": (catalog(7), "aborted by no-fill"),
    "sells at half the price": (catalog(9, 4_000_000), "aborted by spend-per-minute"),
}


class Traffic:
    """Requests on four connections until it is told to stop. Any failure is the test's."""

    def __init__(self, port):
        self.port, self.sent, self.faults, self._stop = port, 0, [], threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(4)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while not self._stop.is_set():
            connection.request("POST", "/api/v2", BODY, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            self.sent += 1  # by four threads: a figure to report, nothing to decide by
            if response.status != 200:
                self.faults.append(response.status)
        connection.close()


def patient(config):
    """No answer is late here: this is no matter of time, and the machine is shared."""
    route_of(config, "/api/v2")["route"]["timeout"] = "30s"
    for cluster in config["static_resources"]["clusters"]:
        cluster["connect_timeout"] = "10s"


def weighted(canary_port):
    """A balancer: two groups of targets, weights that can be changed."""

    def edit(config):
        patient(config)
        clusters = config["static_resources"]["clusters"]
        other = json.loads(json.dumps(by_name(clusters, "api")))
        other["name"] = other["load_assignment"]["cluster_name"] = "canary"
        [group] = other["load_assignment"]["endpoints"]
        [target] = group["lb_endpoints"]
        target["endpoint"]["address"]["socket_address"]["port_value"] = canary_port
        clusters.append(other)
        route = route_of(config, "/api/v2")["route"]
        del route["cluster"]
        route["weighted_clusters"] = {
            "runtime_key_prefix": "canary",
            "clusters": [{"name": "api", "weight": 100}, {"name": "canary", "weight": 0}],
        }

    return edit


@pytest.fixture(scope="module")
def stable():
    with ExitStack() as stack:
        yield pod(stack, GOOD)


def pod(stack, of):
    """A server with its catalog, and its Envoy."""
    require_prometheus()
    require_envoy()
    redis = stack.enter_context(RedisServer())
    publish(redis.url, of)
    server = stack.enter_context(start_server(redis.url, workers=1))
    return server, stack.enter_context(start_envoy(server.port, edit=patient))


def scraped(one):
    server, envoy = one
    return [(server.ops_port, "/metrics"), (envoy.ports["metrics"], "/stats/prometheus")]


@pytest.mark.parametrize("build", BUILDS)
def test_a_bad_build_is_stopped_at_a_twentieth_and_a_good_one_promoted(stable, build):
    docs = rendered("production", "canary/alb")
    new, expected = BUILDS[build]
    with ExitStack() as stack:
        canary = pod(stack, new)
        front = (stable[1].ports["front"], canary[1].ports["front"])
        balancer = stack.enter_context(start_envoy(front[0], edit=weighted(front[1])))
        asked = stack.enter_context(
            start_prometheus({STABLE: scraped(stable), CANARY: scraped(canary)})
        )
        # The shorter window takes fewer requests. p99 is left to recorded series: here it would
        # be the machine's.
        metrics = [
            each._replace(query=each.query.replace("[1m]", "[5s]"))
            for each in metrics_of(of_kind(docs, "AnalysisTemplate"), requests_min="20")
            if each.name != "p99"
        ]
        assert len(metrics) == 3

        def set_weight(weight):
            balancer.set_runtime(canary__api=100 - weight, canary__canary=weight)

        def taken(cluster="canary"):
            return balancer.stats()[f"cluster.{cluster}.upstream_rq_total"]

        def await_look():
            due = taken() + LOOK_EVERY
            wait_until(lambda: taken() >= due, "the new pods to answer more")
            # And until it has been scraped.
            wait_until(lambda: all(asked.ask(each.query) for each in metrics), "results")

        with Traffic(balancer.ports["front"]) as traffic:
            wait_until(lambda: traffic.sent > 200, "traffic")
            ended, failed = roll_out(
                find(docs, "Rollout", "adcore-front"), metrics, set_weight, await_look, asked.ask
            )
            new_pods, old_pods = taken(), taken("api")
            if ended == "promoted":
                wait_until(lambda: taken() > new_pods + 100, "all traffic to be the new pods'")
                assert taken("api") - old_pods <= 4, "what was under way"
        assert not traffic.faults
        assert ended == expected, failed
        if ended != "promoted":
            assert new_pods / (new_pods + old_pods) < 2 * SHARE_AT_5 / 100
            # Argo counts from the second failure on, so two looks: 45 + 20 s, and a scrape.
            assert failed[expected.removeprefix("aborted by ")] == 2


# -- each query over recorded series


def recorded(errors=0, slow=0, unfilled=10, worth=80, requests=600):
    """Ten minutes of both kinds of pods; what is asked for is the new ones'. By 15 s."""

    def series(pods, errors, slow, unfilled, worth, requests):
        # Envoy's name for what it counts, then how much each scrape adds.
        http = 'envoy_http_conn_manager_prefix="front"'
        api = 'envoy_cluster_name="api"'
        name = "envoy_cluster_upstream_rq_time"
        adds = {
            f'envoy_http_downstream_rq_xx{{{http},envoy_response_code_class="2"': requests - errors,
            f"{name}_count{{{api}": requests,
            f'{name}_bucket{{{api},le="2"': requests - slow,
            f'{name}_bucket{{{api},le="10"': requests - slow,
            f'{name}_bucket{{{api},le="20"': requests,
            f'{name}_bucket{{{api},le="+Inf"': requests,
            'adcore_decisions_total{result="filled"': requests * (100 - unfilled) // 100,
            'adcore_decisions_total{result="no_fill"': requests * unfilled // 100,
            'adcore_decisions_total{result="no_snapshot"': 0,
            'adcore_cleared_ecpm_micros_total{job="adcore"': requests * worth,
        }
        if errors:  # Envoy has no such series before the first
            adds[f'envoy_http_downstream_rq_xx{{{http},envoy_response_code_class="5"'] = errors
        labels = f'namespace="{NAMESPACE}",rollouts_pod_template_hash="{pods}"'
        return [
            {"series": f"{start},{labels}}}", "values": f"0+{by}x40"} for start, by in adds.items()
        ]

    usual = series(STABLE, 6, 6, 10, 80, 12_000)
    return usual + series(CANARY, errors, slow, unfilled, worth, requests)


FAULTS = {
    "good": ({}, {}),
    "errors": ({"errors": 3}, {"errors": FAILED}),
    "a few errors": ({"errors": 0, "requests": 6000}, {}),
    "slow": ({"slow": 12}, {"p99": FAILED}),
    "no fill": ({"unfilled": 30}, {"no-fill": FAILED}),
    "cheap": ({"worth": 60}, {"spend-per-minute": FAILED}),
    "dear": ({"worth": 120}, {"spend-per-minute": FAILED}),
    "too few": ({"requests": 100, "unfilled": 100}, dict.fromkeys(
        ("errors", "p99", "no-fill", "spend-per-minute"), INCONCLUSIVE
    )),
}  # fmt: skip


def evaluated(tmp_path, series, query):
    """What promtool makes of a query: it says what it got when it is not what was asked for."""
    (tmp_path / "none.yml").write_text("groups: []")
    test = {
        "interval": "15s",
        "input_series": series,
        "promql_expr_test": [
            {"expr": query, "eval_time": "9m", "exp_samples": [{"labels": "{}", "value": -12345}]}
        ],
    }
    (tmp_path / "test.yml").write_text(
        yaml.safe_dump({"rule_files": ["none.yml"], "tests": [test]})
    )
    done = subprocess.run(
        [shutil.which("promtool"), "test", "rules", tmp_path / "test.yml"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    told = done.stdout + done.stderr
    assert "got:" in told, told
    got = told.split("got:", 1)[1]
    return [] if "nil" in got else [float(got.split()[1].strip("\"'"))]


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_failed_by_its_own_metric_alone(tmp_path, fault):
    if not shutil.which("promtool"):
        pytest.skip("NOT INSTALLED: promtool (Debian's prometheus)")
    shape, expected = FAULTS[fault]
    templates = of_kind(rendered("production", "canary/alb"), "AnalysisTemplate")
    found = {
        metric.name: metric.judge(evaluated(tmp_path, recorded(**shape), metric.query))
        for metric in metrics_of(templates)
    }
    names = ("errors", "p99", "no-fill", "spend-per-minute")
    assert found == dict.fromkeys(names, SUCCESSFUL) | expected


def test_no_number_is_neither_good_nor_bad():
    for metric in metrics_of(of_kind(rendered("production", "canary/alb"), "AnalysisTemplate")):
        assert metric.judge([]) == metric.judge([float("nan")]) == INCONCLUSIVE
    assert condition("len(result) > 0 && (result[0] < 1 || result[0] > 2)", [3.0])
