"""Real shippers, in processes of their own, against a server made of our decoder.

Fluent Bit and fluentd themselves come from no package registry that we build from. Fluentd's client
for Node.js speaks the same handshake, chunks and acks; `make shippers` installs it.
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from server.ledger.stock import UNREADABLE, convert
from tests.forward_server import listening

MODULES = Path(__file__).parent.parent / "build" / "shippers" / "node_modules"
NODE = shutil.which("node")
KEY = "a key that both have"
NOW_S = 1_793_500_000
RECORDS = 20
RECORD = {
    "kind": "impression",
    "outcome": "accepted",
    "issued_s": NOW_S,
    "received_s": NOW_S + 1,
    "id": bytes(16).hex(),
    "line_item_id": 70_001,
    "creative_id": 80_001,
    "site_id": 9,
    "price_micros": 2_500_000,
    "flags": 0,
}
# Exits with 0 once every record has been acked, with 1 on the first error, with 2 in the end.
SCRIPT = """
const [options, records] = JSON.parse(process.argv[1]);
const sender = require('fluent-logger').createFluentSender('adcore', options);
const fail = error => { console.error(error.message); process.exit(1); };
sender.on('error', fail);
let left = records.length;
for (const record of records)
  sender.emit('beacon.node', record, error => {
    if (error) fail(error);
    if (--left === 0) sender.end(null, null, () => process.exit(0));
  });
setTimeout(() => process.exit(2), 15000);
"""

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        NODE is None or not (MODULES / "fluent-logger").exists(),
        reason="no fluent-logger for Node.js: `make shippers` installs it",
    ),
]


def ship(port: int, mode: str, shared_key: str | None) -> subprocess.CompletedProcess[str]:
    options: dict[str, object] = {
        "host": "127.0.0.1",
        "port": port,
        "timeout": 10,
        "eventMode": mode,
        "flushInterval": 20,
        "requireAckResponse": True,
        "ackResponseTimeout": 10_000,
    }
    if shared_key is not None:
        options["security"] = {"clientHostname": "node", "sharedKey": shared_key}
    records = [RECORD] * (RECORDS - 1) + [{"message": "no beacon"}]
    assert NODE is not None
    return subprocess.run(
        [NODE, "-e", SCRIPT, json.dumps([options, records])],
        env={"NODE_PATH": str(MODULES)},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("mode", ["Message", "PackedForward", "CompressedPackedForward"])
@pytest.mark.parametrize("key", [None, KEY])
def test_fluentds_node_client_gets_its_acks(mode, key):
    with listening(RECORDS if mode == "Message" else 1, (key or "").encode()) as (port, chunks):
        done = ship(port, mode, key)
        assert done.returncode == 0, done.stderr
    found = [convert(chunk) for chunk in chunks]
    assert all(chunk.chunk for chunk in chunks)
    assert sum(one.taken for one in found) == RECORDS - 1
    assert [one.reason for one in found if one.refused] == [UNREADABLE]


def test_one_with_another_key_is_told_so():
    with listening(0, KEY.encode()) as (port, chunks):
        done = ship(port, "PackedForward", "another key")
        assert done.returncode == 1
        assert "shared_key mismatch" in done.stderr
    assert not chunks
