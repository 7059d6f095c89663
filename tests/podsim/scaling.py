"""Everything in which a simulated run differs from the rendered YAML in time, in one place.

CI has no minutes to wait, so `CI` shortens what the YAML makes long and keeps the order of sizes:
the balancer's lag is shorter than the hook, the hook than the grace period. `FULL`, which `make
drill` runs, leaves the YAML alone.

One thing is the machine's in both: two cores run some forty processes, where the YAML gives each
pod its own. What waits here for its turn is not ill: the proxy's timeouts of an answer and the
probes' are lengthened. Nothing that the end of a pod depends on is.
"""

import copy
import re
from typing import NamedTuple

from tests.kube import Document, container, containers

ANSWER_S_MAX = 10.0
PROBE_S_MIN = 5


class Scale(NamedTuple):
    """Durations, in seconds."""

    hook_s: tuple[float, float] | None  # at least, at most; None: as the YAML has it
    min_ready_s: float | None
    startup_period_s: float | None  # between startup probes: half a second each is lost by them
    # -- the load balancer's
    join_lag_s: float  # from ready to the first request
    leave_lag_s: float  # from the end's beginning to the last request sent
    health_interval_s: float
    # -- the cluster's
    notice_s: float  # from a spot notice to the end of the machine
    reaction_s: float  # from a spot notice to the eviction of its pods
    node_lost_s: float  # from the end of a machine to its pods being replaced


CI = Scale((3.0, 6.0), 2.0, 0.2, 0.5, 2.0, 1.0, 24.0, 1.0, 2.0)
FULL = Scale(None, None, None, 3.0, 3.0, 5.0, 120.0, 10.0, 40.0)
# As slow as operators have seen a balancer be.
SLOW = FULL._replace(leave_lag_s=20.0)


def scaled(deployment: Document, scale: Scale) -> Document:
    """Give the Deployment with the scale's durations instead of its own."""
    scaled = copy.deepcopy(deployment)
    if scale.min_ready_s is not None:
        scaled["spec"]["minReadySeconds"] = scale.min_ready_s
    pod = scaled["spec"]["template"]["spec"]
    for each in containers(pod):
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            if kind in each:
                each[kind]["timeoutSeconds"] = max(PROBE_S_MIN, each[kind].get("timeoutSeconds", 1))
        if scale.startup_period_s is not None and "startupProbe" in each:
            probe = each["startupProbe"]
            probe["failureThreshold"] *= probe["periodSeconds"] / scale.startup_period_s
            probe["periodSeconds"] = scale.startup_period_s
    if scale.hook_s is not None:
        api = container(pod, "api")
        command = api["lifecycle"]["preStop"]["exec"]["command"]
        for option, seconds in zip(("--min-s", "--max-s"), scale.hook_s, strict=True):
            command[command.index(option) + 1] = str(seconds)
    return scaled


def patient(envoy: str) -> str:
    """Give Envoy's configuration with time for an answer on a machine that is too small."""
    # A route's own, not the idle timeouts of connections, on which the end of a pod depends.
    envoy, answers = re.subn(r"(\{cluster: \w+, timeout:) [0-9.]+s", rf"\1 {ANSWER_S_MAX}s", envoy)
    envoy, connects = re.subn(
        r"connect_timeout: [0-9.]+s", f"connect_timeout: {ANSWER_S_MAX}s", envoy
    )
    assert answers
    assert connects
    return envoy
