"""`adcore drain`: what the front pod's preStop hook runs before the server may end.

Envoy is told to answer /ping with 503 and every request with `Connection: close`, so that the
balancer looks elsewhere. Nobody can see when it has: it is given its time, and after that the pod
waits until no request came since the last look and none is open. Kubelet sends SIGTERM then.

It always ends with 0 and never before its time is up. A hook that fails has kubelet kill the server
at once, and of all that can go wrong here nothing is worse.
"""

import argparse
import http.client
import logging
import math
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import urlencode, urlsplit

from server import logs
from server.clock import monotonic_s, pause

ADMIN: Final = "http://127.0.0.1:9901"
MIN_S: Final = 25.0  # longer than a balancer takes: its deregistration delay of 15 s, and its lag
MAX_S: Final = 40.0  # what the grace period of 60 s leaves after the other containers' ends
POLL_S: Final = 0.25  # requests end within 45 ms: one look after that sees a pod at rest
AGAIN_S: Final = 1.0
SILENCE_S_MAX: Final = 2.0  # Envoy's admin answers in a millisecond; a busy one in some
STATS_BYTES_MAX: Final = 65_536

# A request whose body is still on its way is open, and not yet with the server.
OPEN: Final = "http.front.downstream_rq_active"
# Without probes, which have a cluster of their own: they come to the very end.
TAKEN: Final = "cluster.api.upstream_rq_total"
STATS: Final = "/stats?" + urlencode({"filter": f"^({OPEN}|{TAKEN})$"})

log = logging.getLogger(__name__)


class Load(NamedTuple):
    """Requests that Envoy has open now, and all that it ever passed on to the server."""

    open: int
    taken: int


class EnvoyAdmin:
    """The administration interface of the Envoy in this pod. OSError: it is not to be had."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._host, self._port = place.hostname or "", place.port

    def fail_health_check(self) -> None:
        self._ask("POST", "/healthcheck/fail")

    def load(self) -> Load:
        text = self._ask("GET", STATS)
        values = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
        try:
            return Load(int(values[OPEN]), int(values[TAKEN]))
        except (KeyError, ValueError) as error:
            raise OSError(f"no such statistics: {error}") from None

    def _ask(self, method: str, path: str) -> str:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=SILENCE_S_MAX)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read(STATS_BYTES_MAX)
        except http.client.HTTPException as error:
            raise OSError(f"no HTTP: {error!r}") from None
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise OSError(f"{method} {path}: {response.status}")
        return body.decode("utf-8", "replace")


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser("drain", help="take this pod's Envoy out of service, and wait")
    parser.add_argument("--min-s", type=_seconds, default=MIN_S, help="what a balancer is given")
    parser.add_argument("--max-s", type=_seconds, default=MAX_S, help="when to give up waiting")
    parser.add_argument("--admin", type=_http_url, default=ADMIN, help="Envoy's administration")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    logs.configure("drain", "info")
    drain(EnvoyAdmin(args.admin), args.min_s, args.max_s, monotonic_s, pause)
    return 0


def drain(
    admin: EnvoyAdmin,
    min_s: float,
    max_s: float,
    clock: Callable[[], float],
    wait: Callable[[float], None],
) -> bool:
    """Whether the pod was seen at rest, after at least `min_s` and at most about `max_s`."""
    begun_s = clock()
    failing = _told(admin)
    # Told again until it hears: a pod may be ended before its Envoy's admin answers.
    while (left_s := min_s - (clock() - begun_s)) > 0:
        wait(left_s if failing else min(left_s, AGAIN_S))
        failing = failing or _told(admin)
    rests = _rests(admin, begun_s + max_s, clock, wait)
    log.info(
        "drained" if rests else "drained, not at rest",
        extra={"waited_s": round(clock() - begun_s, 2), "told": failing},
    )
    return rests


def _told(admin: EnvoyAdmin) -> bool:
    try:
        admin.fail_health_check()
    except OSError as error:
        log.warning("envoy is not told to drain", extra={"detail": str(error)})
        return False
    log.info("draining")
    return True


def _rests(
    admin: EnvoyAdmin, end_s: float, clock: Callable[[], float], wait: Callable[[float], None]
) -> bool:
    """Wait until between two looks no request came, and none is open."""
    before: Load | None = None
    while True:
        try:
            now = admin.load()
        except ConnectionRefusedError:
            # Without Envoy no request can come.
            log.warning("envoy is gone")
            return True
        except OSError as error:
            log.warning("envoy does not say what is open", extra={"detail": str(error)})
        else:
            if now.open == 0 and before is not None and now.taken == before.taken:
                return True
            before = now
        if clock() >= end_s:
            return False
        wait(POLL_S)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not (0 <= seconds <= 3600 and math.isfinite(seconds)):
        raise argparse.ArgumentTypeError("seconds, 0 to 3600")
    return seconds


def _http_url(text: str) -> str:
    try:
        place = urlsplit(text)
        fits = place.scheme == "http" and bool(place.hostname) and place.path in ("", "/")
        _ = place.port
    except ValueError:
        fits = False
    if not fits:
        raise argparse.ArgumentTypeError("http://HOST:PORT")
    return text
