"""k8s/ renders, and says what it means: names that are used exist, labels and ports agree."""

import fnmatch
import re

import pytest
import yaml

from server.ledger.lines import DATABASE, KINDS
from tests.kube import OVERLAYS, chosen, environment, find, rendered

pytestmark = pytest.mark.process


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_renders_into_its_own_namespace(overlay):
    docs = rendered(overlay)
    namespace = "adcore" if overlay == "production" else f"adcore-{overlay}"
    assert find(docs, "Namespace", namespace)
    assert {doc["metadata"].get("namespace", namespace) for doc in docs} == {namespace}


def test_containers_start_and_stop_in_order():
    pod = find(rendered("production"), "Deployment", "adcore-front")["spec"]["template"]["spec"]
    assert [each["name"] for each in pod["initContainers"]] == ["forwarder", "envoy"]
    assert all(each["restartPolicy"] == "Always" for each in pod["initContainers"])
    assert [each["name"] for each in pod["containers"]] == ["api"]


def test_an_environment_is_what_the_kubelet_makes_of_it():
    docs = rendered("dev")
    pod = find(docs, "Deployment", "adcore-front")["spec"]["template"]["spec"]
    keys = ("token-key", "user-key", "ops-key", "ledger-key")
    secrets = {("adcore-keys", key): key for key in keys} | {("adcore-redis", "url"): "redis://r"}
    api = environment(docs, pod, "api", secrets=secrets)
    assert api["ADCORE_WORKERS"] == "1"  # half a core
    assert api["ADCORE_REDIS_URL"] == "redis://r"
    assert api["ADCORE_LOG_LEVEL"] == "debug"


# -- Fluent Bit instead of our forwarder


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_fluent_bit_sends_each_shards_lines_to_its_aggregator(overlay):
    docs = rendered(overlay, "fluent-bit")
    pod = find(docs, "Deployment", "adcore-front")["spec"]["template"]["spec"]
    names = [each["name"] for each in pod["initContainers"]]
    assert names == ["fluent-bit", "forwarder", "envoy"]
    assert pod["initContainers"][1]["args"] == ["lines"]
    config = yaml.safe_load(find(docs, "ConfigMap", "adcore-fluent-bit")["data"]["fluent-bit.yaml"])
    (tail,), outputs = config["pipeline"]["inputs"], config["pipeline"]["outputs"]
    settings = find(docs, "ConfigMap", "adcore-settings")["data"]
    for shard, address in enumerate(settings["ADCORE_AGGREGATORS"].split()):
        for kind in KINDS.values():
            file = f"/lines/{shard}.{kind}.front_7d_x-{7:016x}.{1:020d}.jsonl"
            found = re.search(tail["tag_regex"].replace("(?<", "(?P<"), file)
            tag = re.sub("<([a-z]+)>", lambda name, found=found: found[name[1]], tail["tag"])
            assert tag == f"adcore.{kind}.{shard}"
            to = [each for each in outputs if fnmatch.fnmatchcase(tag, each["match"])]
            assert [f"{each['host']}:{each['port']}" for each in to] == [address]
            assert to[0]["require_ack_response"] is True
    assert tail["db"] == f"/lines/{DATABASE}"
    assert tail["db.locking"] is False


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_policies_that_allow_come_with_the_one_that_denies(overlay):
    """A pod that one policy selects is cut from all else: `redis-…` alone would cut off the DNS."""
    assert {"network-policies", "pod-security"} <= set(chosen(overlay))
    assert any(name.startswith("redis-") for name in chosen(overlay))
