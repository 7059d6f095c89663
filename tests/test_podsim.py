"""The rendered front Deployment, run as real processes, rolled out, scaled and called back.

Whoever asks for an ad meanwhile gets one, and every impression is counted once. Without the preStop
hooks neither the balancer nor these tests would be content: that is tested too.
"""

import asyncio
from typing import Any

import pytest

from tests.envoy_proxy import require_envoy
from tests.kube import KUSTOMIZE
from tests.podsim import drama
from tests.podsim.scaling import CI

pytestmark = pytest.mark.process

Acts = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def played() -> dict[str, Any]:
    require_envoy()
    if not KUSTOMIZE.exists():
        pytest.skip("NOT INSTALLED: kustomize (`make kube-tools`)")
    found = asyncio.run(drama.play(CI))
    for name, act in found["acts"].items():
        print(name, act)
    print(found["pods"])
    return found


@pytest.fixture(scope="module")
def acts(played: dict[str, Any]) -> Acts:
    return played["acts"]


def test_a_rolling_update_fails_no_request(played: dict[str, Any], acts: Acts):
    act = acts["rolling_update"]
    assert act["failed"] == 0, played["balancer_errors"]
    assert act["requests"] >= drama.ROLLED_REQUESTS


def test_without_hooks_the_same_rolling_update_fails_many(acts: Acts):
    assert acts["rolling_update_without_hooks"]["failed"] > drama.BROKEN_REQUESTS_MIN


def test_scaling_out_and_in_fails_no_request(played: dict[str, Any], acts: Acts):
    for name in ("scale_3_6", "scale_6_3"):
        assert acts[name]["failed"] == 0, played["balancer_errors"]
        assert acts[name]["requests"] > 0


def test_a_spot_node_with_five_pods_leaves_in_time_and_fails_no_request(
    played: dict[str, Any], acts: Acts
):
    act = acts["spot_notice"]
    assert act["failed"] == 0, played["balancer_errors"]
    assert act["pods"] == drama.PODS
    assert act["cut_off"] == 0
    assert act["pods_gone_s"] < act["notice_s"]


def test_a_machine_that_goes_without_notice_fails_requests_until_health_checks_see_it(acts: Acts):
    act = acts["machine_lost"]
    assert act["failed"] > 0, "then the balancer did not send to what was killed"
    assert act["failed_after_checks"] == 0


def test_every_impression_is_counted_once(acts: Acts):
    events = acts["events"]
    assert events["lost"] == events["doubled"] == events["invalid"] == 0
    assert events["counted"] == events["shown"] > 0


def test_pods_end_by_themselves_in_the_kubelets_order(played: dict[str, Any]):
    pods = played["pods"]
    assert set(pods["exit_codes"]) == {"forwarder 0", "envoy 0", "api 0"}
    assert pods["restarts"] == 0
    for history in played["histories"]:
        told = [name for _, name, what in history if what == "SIGTERM"]
        assert told == ["api", "envoy", "forwarder"]
        assert not [what for _, _, what in history if what == "SIGKILL"]
