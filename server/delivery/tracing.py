"""Traces of sampled decisions, by OTLP/HTTP. Off by default, and then nothing here is imported.

A sampled request notes when each step of it ended; a thread makes spans of that, through
OpenTelemetry's SDK, and sends them. What it can't keep up with is dropped and counted: no answer
waits for a collector.
"""

import logging
import re
import threading
from collections import deque
from collections.abc import Callable, Sized
from importlib.util import find_spec
from random import Random
from socket import gethostname
from typing import TYPE_CHECKING, Final

from server.clock import now_ms, perf_ns
from server.config import Config
from server.delivery.http import HeaderMap
from server.delivery.snapshot import Snapshot
from server.errors import ConfigError

if TYPE_CHECKING:
    from opentelemetry.context import Context

NAME: Final = "POST /api/v2"
WAITING_MAX: Final = 2048  # decisions, some 2 MB
BATCH_MAX: Final = 256
# Of all that is sampled: callers may ask for traces by `traceparent`, so one of them may not ask
# for all that a worker has.
PER_SECOND_MAX: Final = 100
PAUSE_S: Final = 0.5
SEND_S_MAX: Final = 3.0  # for one batch; also what the end of a worker may wait for a collector
_SECOND_NS: Final = 1_000_000_000
_PARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"  # version first
)

log = logging.getLogger(__name__)

Parent = tuple[int, int]
"""The caller's trace and span."""


def check(config: Config) -> None:
    """Refuse to be asked for traces without what sends them."""
    if config.trace_one_in:
        try:
            found = find_spec("opentelemetry.exporter.otlp.proto.http")
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise ConfigError("ADCORE_TRACE_ONE_IN: needs pip install 'adcore[tracing]'")


def parent_of(header: str | None) -> tuple[Parent | None, bool]:
    """Read W3C's `traceparent`: who the caller is, and whether it samples. Nonsense is nobody."""
    found = _PARENT.fullmatch(header) if header else None
    if found is None:
        return None, False
    trace, span = int(found[1], 16), int(found[2], 16)
    if not trace or not span:
        return None, False
    return (trace, span), bool(int(found[3], 16) & 1)


class Trace:
    """One sampled decision: its steps follow each other without a gap."""

    __slots__ = ("attributes", "parent", "started_ns", "steps")

    def __init__(self, parent: Parent | None, started_ns: int) -> None:
        self.parent = parent
        self.started_ns = started_ns
        self.steps: list[tuple[str, int]] = []
        self.attributes: dict[str, int] = {}

    def step(self, name: str) -> None:
        """End the step of this name now; it began where the one before it ended."""
        self.steps.append((name, perf_ns()))


class Tracer:
    """One a worker. `begin` and `end` are called by requests, all else happens in a thread."""

    def __init__(
        self, one_in: int, url: str, worker: str, tell: Callable[[int, int, int], None]
    ) -> None:
        self.sent = self.dropped = self.failed = 0
        self._one_in = one_in
        self._random = Random()
        self._second = self._in_second = 0
        self._waiting: deque[Trace] = deque()
        self._tell = tell
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._spans = _Spans(url, worker)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Send what waits; a collector that is away costs one batch's patience."""
        self._ending.set()
        self._thread.join(2 * SEND_S_MAX)

    def begin(self, headers: HeaderMap, started_ns: int) -> Trace | None:
        """Decide whether this one is traced: a caller that says so is heard, either way."""
        parent, sampled = parent_of(headers.get("traceparent"))
        if not sampled and (parent or self._random.randrange(self._one_in)):
            return None
        second = started_ns // _SECOND_NS
        if second != self._second:
            self._second, self._in_second = second, 0
        self._in_second += 1
        if self._in_second > PER_SECOND_MAX:
            self.dropped += 1
            return None
        return Trace(parent, started_ns)

    def end(
        self, trace: Trace, placements: Sized, wins: list[list[object]], snapshot: Snapshot | None
    ) -> None:
        trace.step("write")
        trace.attributes = {
            "adcore.placements": len(placements),
            "adcore.filled": sum(map(bool, wins)),
            "adcore.generation": snapshot.generation if snapshot else 0,
        }
        if len(self._waiting) < WAITING_MAX:
            self._waiting.append(trace)
        else:
            self.dropped += 1

    # -- the thread

    def _run(self) -> None:
        ending = False
        while not ending:
            ending = self._ending.wait(PAUSE_S)
            went = True
            while went and (traces := self._next()):
                went = self._send(traces)
            self._tell(self.sent, self.dropped, self.failed)
        self._spans.close()

    def _next(self) -> list[Trace]:
        return [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]

    def _send(self, traces: list[Trace]) -> bool:
        try:
            went = self._spans.send(traces)
        except Exception:
            log.exception("traces can't be sent")
            went = False
        if went:
            self.sent += len(traces)
        else:
            self.failed += len(traces)
        return went


class _Spans:
    """OpenTelemetry's part: decisions in, spans out to the collector."""

    def __init__(self, url: str, worker: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON

        ended: list[ReadableSpan] = []

        class Collecting(SpanProcessor):
            def on_end(self, span: ReadableSpan) -> None:
                ended.append(span)

        instance = f"{gethostname()}.{worker}"
        resource = Resource.create({"service.name": "adcore", "service.instance.id": instance})
        provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
        provider.add_span_processor(Collecting())
        self._tracer = provider.get_tracer("adcore")
        self._exporter = OTLPSpanExporter(endpoint=url, timeout=SEND_S_MAX)
        self._ended = ended

    def send(self, traces: list[Trace]) -> bool:
        from opentelemetry.sdk.trace.export import SpanExportResult

        self._ended.clear()
        # Two clocks: steps are measured by the steady one.
        ahead_ns = now_ms() * 1_000_000 - perf_ns()
        for trace in traces:
            self._make(trace, ahead_ns)
        return self._exporter.export(tuple(self._ended)) is SpanExportResult.SUCCESS

    def close(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _make(self, trace: Trace, ahead_ns: int) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context

        begun_ns = trace.started_ns + ahead_ns
        root = self._tracer.start_span(
            NAME,
            _context_of(trace.parent),
            SpanKind.SERVER,
            attributes=trace.attributes,
            start_time=begun_ns,
        )
        within = set_span_in_context(root)
        for name, ended_ns in trace.steps:
            span = self._tracer.start_span(name, within, start_time=begun_ns)
            begun_ns = ended_ns + ahead_ns
            span.end(begun_ns)
        root.end(begun_ns)


def _context_of(parent: Parent | None) -> "Context":
    from opentelemetry.context import Context
    from opentelemetry.trace import (
        NonRecordingSpan,
        SpanContext,
        TraceFlags,
        set_span_in_context,
    )

    if parent is None:
        return Context()
    caller = SpanContext(*parent, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(caller), Context())
