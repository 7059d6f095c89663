"""Traces: none unless asked for, the caller's when it asks, never at the cost of an answer."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from server import config
from server.clock import perf_ns
from server.delivery import tracing
from server.delivery.http import GivenHeaders
from server.errors import ConfigError
from tests.capped import body, cap, capped_catalog
from tests.serving import publish, start_server, wait_until

pytestmark = pytest.mark.process  # protobuf's C is not for the sanitizer to judge

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = f"00-{TRACE}-{SPAN}-01"


class Collector(ThreadingHTTPServer):
    """A real OTLP/HTTP receiver: what it was sent, decoded by the protocol's own classes."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list = []
        self.resources: list[dict[str, str]] = []
        self.refuses = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/traces"

    def roots(self) -> list:
        return [span for span in self.spans if span.name == tracing.NAME]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["content-length"]))
        request = ExportTraceServiceRequest.FromString(sent)
        if not self.server.refuses:
            for found in request.resource_spans:
                pairs = {each.key: each.value.string_value for each in found.resource.attributes}
                self.server.resources.append(pairs)
                self.server.spans += [span for scope in found.scope_spans for span in scope.spans]
        self.send_response(400 if self.server.refuses else 200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def tracer_of(url: str, told: list, one_in: int = 1) -> tracing.Tracer:
    return tracing.Tracer(one_in, url, "worker-1", lambda *counts: told.append(counts))


def headers(text: str | None) -> GivenHeaders:
    return GivenHeaders([] if text is None else [("traceparent", text)])


# -- the caller's word


@pytest.mark.parametrize(
    ("text", "parent", "sampled"),
    [
        (SAMPLED, True, True),
        (f"00-{TRACE}-{SPAN}-00", True, False),
        (f"00-{TRACE}-{SPAN}-03", True, True),
        (f"01-{TRACE}-{SPAN}-01-more", True, True),  # a later version may say more
        (f"ff-{TRACE}-{SPAN}-01", False, False),
        (f"00-{'0' * 32}-{SPAN}-01", False, False),
        (f"00-{TRACE}-{'0' * 16}-01", False, False),
        (f"00-{TRACE.upper()}-{SPAN}-01", False, False),
        (f"00-{TRACE}-{SPAN}", False, False),
        ("", False, False),
        (None, False, False),
    ],
)
def test_a_traceparent_is_read_as_w3c_says(text, parent, sampled):
    wanted = (int(TRACE, 16), int(SPAN, 16)) if parent else None
    assert tracing.parent_of(text) == (wanted, sampled)


def test_a_caller_that_says_so_is_sampled_and_one_that_says_no_is_not():
    tracer = tracer_of("http://127.0.0.1:1/v1/traces", [], one_in=1_000_000)
    assert tracer.begin(headers(SAMPLED), perf_ns()) is not None
    always = tracer_of("http://127.0.0.1:1/v1/traces", [], one_in=1)
    assert always.begin(headers(None), perf_ns()) is not None
    assert always.begin(headers(f"00-{TRACE}-{SPAN}-00"), perf_ns()) is None


def test_callers_can_not_have_more_than_a_worker_gives():
    tracer = tracer_of("http://127.0.0.1:1/v1/traces", [], one_in=1_000_000)
    second_ns = 5_000_000_000
    begun = [tracer.begin(headers(SAMPLED), second_ns) for _ in range(tracing.PER_SECOND_MAX + 5)]
    assert sum(trace is not None for trace in begun) == tracing.PER_SECOND_MAX
    assert tracer.dropped == 5
    assert tracer.begin(headers(SAMPLED), second_ns + 1_000_000_000) is not None


def test_one_in_so_many_is_sampled():
    tracer = tracer_of("http://127.0.0.1:1/v1/traces", [], one_in=4)
    begun = [tracer.begin(headers(None), number * 10**9) for number in range(4000)]
    assert 800 < sum(trace is not None for trace in begun) < 1200  # 7 standard deviations


# -- to the collector


def test_steps_become_spans_that_follow_each_other(collector):
    told: list = []
    tracer = tracer_of(collector.url, told)
    trace = tracer.begin(headers(SAMPLED), perf_ns())
    for name in ("parse", "select", "caps", "select"):
        trace.step(name)
    tracer.end(trace, ["top", "side"], [["win"], []], None)
    tracer.start()
    tracer.stop()
    *steps, root = sorted(collector.spans, key=lambda span: span.name == tracing.NAME)
    steps.sort(key=lambda span: (span.start_time_unix_nano, span.end_time_unix_nano))
    assert [span.name for span in steps] == ["parse", "select", "caps", "select", "write"]
    assert root.trace_id.hex() == TRACE
    assert root.parent_span_id.hex() == SPAN
    assert {span.parent_span_id for span in steps} == {root.span_id}
    assert {span.trace_id for span in steps} == {root.trace_id}
    edges = [root.start_time_unix_nano, *(span.end_time_unix_nano for span in steps)]
    assert [span.start_time_unix_nano for span in steps] == edges[:-1]
    assert edges[-1] == root.end_time_unix_nano
    said = {pair.key: pair.value.int_value for pair in root.attributes}
    assert said == {"adcore.placements": 2, "adcore.filled": 1, "adcore.generation": 0}
    assert collector.resources[0]["service.name"] == "adcore"
    assert told[-1] == (1, 0, 0)


def test_what_is_too_much_is_dropped_and_counted(monkeypatch, collector):
    monkeypatch.setattr(tracing, "WAITING_MAX", 3)
    told: list = []
    tracer = tracer_of(collector.url, told)
    for second in range(5):
        trace = tracer.begin(headers(None), second * 10**9)
        tracer.end(trace, [], [], None)
    tracer.start()
    tracer.stop()
    assert told[-1] == (3, 2, 0)
    assert len(collector.roots()) == 3


def test_a_collector_that_refuses_is_counted_and_no_more(collector):
    collector.refuses = True
    told: list = []
    tracer = tracer_of(collector.url, told)
    tracer.end(tracer.begin(headers(None), perf_ns()), [], [], None)
    tracer.start()
    tracer.stop()
    assert told[-1] == (0, 0, 1)


# -- settings


def test_traces_are_off_unless_asked_for():
    assert config.load({}).trace_one_in == 0
    tracing.check(config.load({}))


def test_what_sends_them_must_be_installed(monkeypatch):
    asked = config.load({"ADCORE_TRACE_ONE_IN": "10"})
    tracing.check(asked)
    monkeypatch.setattr(tracing, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="tracing"):
        tracing.check(asked)


@pytest.mark.parametrize("url", ["collector:4318", "http://", "http://u:p@host/", "http://a/?b"])
def test_a_collector_s_address_has_no_secret(url):
    with pytest.raises(ConfigError, match="ADCORE_TRACE_URL"):
        config.load({"ADCORE_TRACE_URL": url})


# -- the server


@pytest.mark.parametrize("door", ["direct", "asgi"])
def test_a_server_s_decisions_reach_the_collector(redis_url, collector, door):
    publish(redis_url, capped_catalog({"frequency_caps": [cap(3)]}))
    with start_server(
        redis_url, door=door, trace_one_in=1_000_000, trace_url=collector.url
    ) as server:
        answer = server.post("/api/v2", body("u"), {"traceparent": SAMPLED})
        assert answer.status == 200
        wait_until(collector.roots, "a trace")
        assert server.stop() == 0
        (root,) = collector.roots()
        names = [span.name for span in collector.spans if span is not root]
        assert {"parse", "select", "caps", "write"} == {*names}
        assert root.trace_id.hex() == TRACE
        (resource,) = collector.resources
        assert resource["service.instance.id"].endswith("worker-1")
