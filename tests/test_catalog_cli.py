"""What a person types: each command's output and exit code, and never a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from adcore.catalog import Catalog
from server import cli
from tests.catalogs import minimal, minimal_records

pytestmark = pytest.mark.process

ROOT = Path(__file__).parent.parent


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.json"
    path.write_text(json.dumps(minimal_records()))
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    records = minimal_records()
    records["line_items"][0]["campaign_id"] = 99
    records["line_items"][1]["weight"] = 0
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(records, indent=1))
    return path


def test_check_counts_what_is_fine(adcore, good):
    assert adcore("check", good) == (
        f"{good}: fine: 2 priorities, 2 ad types, 1 site, 1 zone, 2 advertisers, 2 campaigns,"
        " 2 line items, 3 creatives\n"
    )


def test_check_lists_every_fault_with_its_line(adcore, bad):
    text = bad.read_text().splitlines()
    first = next(n for n, line in enumerate(text, 1) if '"campaign_id": 99' in line)
    second = next(n for n, line in enumerate(text, 1) if '"weight": 0' in line)
    assert adcore("check", bad, code=1).splitlines() == [
        f"{bad}:{first}: line_items[0].campaign_id (line item 40): there is no campaign 99",
        f"{bad}:{second}: line_items[1].weight (line item 41): must be >= 1, not 0",
        f"{bad}: 2 faults; not fit to publish",
    ]


def test_schema_is_the_catalog_s(adcore):
    schema = json.loads(adcore("schema"))
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert set(schema["$defs"]["Catalog"]["properties"]) == set(Catalog.__struct_fields__)
    assert schema["$defs"]["Catalog"]["additionalProperties"] is False


def test_publish_list_show_diff_and_roll_back(adcore, good, tmp_path):
    assert adcore("catalog", "list") == ""
    assert "published generation 1: 2 priorities" in adcore("publish", good)
    records = minimal_records()
    records["line_items"][0]["weight"] = 7
    other = tmp_path / "other.yaml"
    other.write_text(json.dumps(records))
    assert "published generation 2" in adcore("publish", other)

    first, second = adcore("catalog", "list").splitlines()
    assert first.startswith("* ")
    assert first.endswith(f"2 line items, 2 kB, from {other}")
    assert not second.startswith("*")

    change = '~ line item 40 "Front page takeover": weight: default -> 7\n'
    assert adcore("catalog", "diff", "1", "2") == change
    assert adcore("catalog", "diff", good, "2") == change
    assert adcore("catalog", "diff", "1", good) == ""

    assert adcore("catalog", "rollback") == "generation 1 is current, 2 was\n"
    shown = adcore("catalog", "show")
    assert f"from {good}" in shown
    assert "3 creatives" in shown
    shown = adcore("catalog", "show", "--json")
    assert msgspec.json.decode(shown, type=Catalog) == minimal()
    assert adcore("catalog", "rollback", "2") == "generation 2 is current, 1 was\n"


def test_a_bad_catalog_is_never_published(adcore, good, bad):
    adcore("publish", good)
    refused = adcore("publish", bad, code=1)
    assert "there is no campaign 99" in refused
    assert "must be >= 1, not 0" in refused
    assert adcore("catalog", "list").startswith("*      1 ")


@pytest.fixture
def inside(redis_url: str, monkeypatch, capsys):
    """Run the command in this process: for many small cases, where starting one takes longest."""
    for name in os.environ:
        if name.startswith("ADCORE_"):
            monkeypatch.delenv(name)

    def run(*arguments: object, code: int = 0, **settings: str) -> str:
        settings = {"ADCORE_REDIS_URL": redis_url} | settings
        with monkeypatch.context() as patch:
            for name, text in settings.items():
                patch.setenv(name, text)
            try:
                found: object = cli.main([str(argument) for argument in arguments])
            except SystemExit as ended:
                found = ended.code
            assert found == code
        return "".join(capsys.readouterr())

    return run


def test_what_goes_wrong_is_one_line_and_exit_code_1(inside, good, tmp_path):
    assert "can't read" in inside("check", tmp_path / "none.yaml", code=1)
    assert "nothing is published" in inside("catalog", "show", code=1)
    assert "nothing is published" in inside("catalog", "rollback", code=1)
    assert "no generation 7" in inside("catalog", "show", "7", code=1)
    inside("publish", good)
    assert "no generation before 1" in inside("catalog", "rollback", code=1)
    assert "no generation 7" in inside("catalog", "rollback", "7", code=1)
    away = {"ADCORE_REDIS_URL": f"unix://{tmp_path}/none.sock"}
    assert inside("publish", good, code=1, **away).startswith("adcore: Redis is away: ")
    assert inside("catalog", "list", code=1, **away).count("\n") == 1
    assert "ADCORE_PORT" in inside("catalog", "list", code=1, ADCORE_PORT="x")


def test_wrong_usage_is_exit_code_2(inside):
    assert "usage: adcore" in inside("check", code=2)
    assert "usage: adcore" in inside("catalog", code=2)
    assert "usage: adcore" in inside("catalog", "show", "x", code=2)


def test_every_command_is_registered_by_the_module_that_the_table_names(inside):
    shown = inside("--help")
    assert "check" in shown
    for command in cli.COMMANDS:
        assert f"usage: adcore {command}" in inside(command, "--help")
    assert "invalid choice: 'bogus'" in inside("bogus", code=2)


def test_a_reader_that_has_seen_enough_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)  # as `head` does, when it has its lines
    command = [sys.executable, "-m", "server", "schema"]
    done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")
