"""The ledger's commands as processes: what people saw and clicked stands in Redis, exactly."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from server.ledger import wal
from server.ledger.folder import DiskFolder
from server.store import Keyspace, connect
from server.store.counts import CountsStore
from tests.serving import (
    DEADLINE_S,
    ROOT,
    ServerProcess,
    environ_of,
    free_ports,
    start_server,
    wait_until,
)

pytestmark = pytest.mark.process

REQUEST = (ROOT / "examples/request.json").read_bytes()
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:{0}.0) Gecko/20100101 Firefox/{0}.0"
KEY, OTHER_KEY = "0123456789abcdef" * 4, "fedcba9876543210" * 4


class Command:
    """`adcore forward` or `adcore aggregate`."""

    def __init__(self, name: str, folder: Path, settings: dict[str, object]) -> None:
        self._log = folder / f"{name}.log"
        inherited = {name: text for name, text in os.environ.items() if name[:7] != "ADCORE_"}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "server", name],
                cwd=ROOT,
                env=inherited | environ_of({"ops_port": free_ports()[0], **settings}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.log, f"{text!r} in the log")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Ledger:
    """A server with its spool, Redis, and the commands that a test starts."""

    def __init__(self, folder: Path, redis_url: str, server: ServerProcess) -> None:
        self.folder = folder
        self.seen: Counter[str] = Counter()
        self.server = server
        self.stack = ExitStack()
        self.store = CountsStore(connect(redis_url), Keyspace(), 0)
        port, _ = free_ports()
        self.settings: dict[str, object] = {
            "redis_url": redis_url,
            "ledger_dir": folder / "ledger",
            "aggregate_port": port,
            "aggregators": f"localhost:{port}",
            "ledger_key": KEY,
        }

    def start(self, name: str, **settings: object) -> Command:
        command = Command(name, self.folder, self.settings | settings)
        self.stack.callback(command.kill)
        return command

    def browse(self, people: int) -> None:
        """Have people see all that is shown to them, and some click on it, or say it twice."""
        for _ in range(people):
            self.seen["people"] += 1
            headers = {
                "X-Country": "DE",
                "Content-Type": "application/json",
                "User-Agent": BROWSER.format(100 + self.seen["people"]),
            }
            answer = self.server.post("/api/v2", REQUEST, headers)
            assert answer.status == 200
            for decision in json.loads(answer.body)["decisions"].values():
                for shown in decision if isinstance(decision, list) else [decision]:
                    if shown:
                        self._look(shown, headers)

    def _look(self, shown: dict[str, str], headers: dict[str, str]) -> None:
        def get(url: str) -> int:
            path = urlsplit(url)
            return self.server.get(f"{path.path}?{path.query}", headers).status

        assert get(shown["impressionUrl"]) in (200, 204)
        self.seen["impressions"] += 1
        if self.seen["impressions"] % 5 == 0:
            get(shown["impressionUrl"])
            self.seen["invalid.impression.duplicate"] += 1
        if self.seen["people"] % 3 == 0:
            assert get(shown["clickUrl"]) == 302
            self.seen["clicks"] += 1

    def counted(self) -> Counter[str]:
        counts: Counter[str] = Counter()
        for _, _, fields in self.store.read(self.store.hours()):
            for field, count in fields.items():
                name = field.decode().split(".", 3)[3]
                if "impression" in name or "click" in name:
                    counts[name] += count
        return counts

    def is_exact(self) -> bool:
        assert self.seen["impressions"] > self.seen["clicks"] > 0
        return self.counted() == self.seen - Counter(people=self.seen["people"])

    def wait_exact(self) -> None:
        try:
            wait_until(self.is_exact, "exact counts", 20)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.counted()}, seen {self.seen}") from None

    def taken(self) -> int:
        log = DiskFolder(self.folder / "ledger" / "wal")
        records = wal.read(log, 0, wal.durable_mark(log))
        return sum(isinstance(wal.decode(record.body), wal.Shipped) for record in records)


@pytest.fixture
def ledger(tmp_path, redis_url) -> Iterator[Ledger]:
    environ = {"redis_url": redis_url}
    publish = [sys.executable, "-m", "server", "publish", "examples/catalog.yaml"]
    subprocess.run(
        publish, cwd=ROOT, env=os.environ | environ_of(environ), check=True, capture_output=True
    )
    with start_server(redis_url, country_header="x-country") as server:
        ledger = Ledger(tmp_path, redis_url, server)
        ledger.settings["spool_dir"] = server.spool_dir
        with ledger.stack:
            yield ledger


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> dict[str, object]:
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the certificate")
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    command += " -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run(
        [*command.split(), "-keyout", key, "-out", cert], check=True, capture_output=True
    )
    return {
        "ledger_tls_cert_file": cert,
        "ledger_tls_key_file": key,
        "ledger_tls_ca_file": cert,
    }


def test_events_arrive_over_tls_whatever_is_killed(ledger, certificate):
    ledger.settings |= certificate
    aggregator = ledger.start("aggregate", spool_dir="")
    aggregator.wait_for('"aggregating"')
    forwarder = ledger.start("forward")
    ledger.browse(12)
    ledger.wait_exact()

    aggregator.kill()
    ledger.browse(6)
    aggregator = ledger.start("aggregate", spool_dir="")
    ledger.browse(6)
    ledger.wait_exact()

    forwarder.kill()
    ledger.browse(6)
    forwarder = ledger.start("forward")
    ledger.wait_exact()

    # Everyone is told to end, in the order in which events flow.
    ledger.browse(12)
    assert ledger.server.stop() == 0
    assert forwarder.stop() == 0
    ledger.wait_exact()
    assert aggregator.stop() == 0


def test_another_key_is_let_in_nowhere(ledger):
    aggregator = ledger.start("aggregate", spool_dir="")
    aggregator.wait_for('"aggregating"')
    stranger = ledger.start("forward", ledger_key=OTHER_KEY)
    ledger.browse(6)
    stranger.wait_for("not connected")
    wait_until(lambda: aggregator.log.count("hung up") >= 3, "three attempts")
    assert stranger.log.count("not connected") == 1
    assert ledger.taken() == 0
    stranger.kill()
    ledger.start("forward")
    ledger.wait_exact()


def test_one_machine_needs_no_forwarder(ledger):
    aggregator = ledger.start("aggregate")
    ledger.browse(6)
    ledger.wait_exact()
    ledger.browse(6)
    assert ledger.server.stop() == 0
    assert aggregator.stop() == 0
    ledger.start("aggregate")
    ledger.wait_exact()
