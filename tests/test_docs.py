"""What the documents say can be run, and what they point at is there."""

import re
from pathlib import Path

import msgspec
import pytest

from server.config import Config
from server.families import ROUTES

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "benchmarks" / "README.md"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def test_the_engine_s_page_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/engine.md").read_text(), re.DOTALL)
    names = {}
    for block in blocks:
        exec(compile(block, "engine.md", "exec"), names)
    won, *lost = capsys.readouterr().out.splitlines()
    assert won.startswith("[")
    assert len(lost) == 5


def test_the_readme_s_python_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
    line_item_id, price_micros = capsys.readouterr().out.split()
    assert int(line_item_id) > 0
    assert int(price_micros) >= 0


def test_every_setting_is_documented_and_no_other():
    documented = set(re.findall(r"`(ADCORE_[A-Z_]+)`", (ROOT / "docs" / "settings.md").read_text()))
    fields = {f"ADCORE_{field.name.upper()}" for field in msgspec.structs.fields(Config)}
    assert documented == fields


def test_every_beacon_s_route_is_documented():
    documented = re.findall(
        r"^\| `(/[a-z.]+)\?e=TOKEN`", (ROOT / "docs/tracking.md").read_text(), re.M
    )
    assert set(documented) == ROUTES.keys() - {"/api/v2", "/ping"}


def test_every_target_that_a_document_names_is_in_the_makefile():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[0].split())
    for document in DOCUMENTS:
        assert set(re.findall(r"`make ([a-z]+)`", document.read_text())) <= targets
