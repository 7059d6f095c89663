"""k8s/ renders, and says what it means: names that are used exist, labels and ports agree."""

import pytest

from tests.kube import OVERLAYS, environment, find, rendered

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
