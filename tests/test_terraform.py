"""terraform/ is whole: it parses, names nothing that is not there, pins what it takes, and reckons.

Providers can't be had where this runs, so types of their resources are checked by nobody here.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import hcl2
import pytest

from tests.terraform import MODULES, ROOT, blocks, labelled, name_of, plain, sizing, text_of

CHECKOV = Path(__file__).parent.parent / "build/tools/checkov/bin/checkov"
TOFU = Path(__file__).parent.parent / "build/tools/bin/tofu"
EXACT = re.compile(r'"\d+\.\d+\.\d+"')


def tool() -> str:
    found = shutil.which("terraform") or (str(TOFU) if TOFU.exists() else None)
    if found is None:
        pytest.skip("NOT INSTALLED: terraform or OpenTofu (`make tofu`)")
    return found


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [tool(), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "CHECKPOINT_DISABLE": "1"},
    )


@pytest.fixture
def copied(tmp_path):
    """The sizing module where its working files do not lie in the tree."""
    shutil.copytree(
        ROOT / "modules" / "sizing", tmp_path / "sizing", ignore=shutil.ignore_patterns(".*")
    )
    return tmp_path / "sizing"


@pytest.mark.process
def test_files_are_formatted():
    done = run("fmt", "-check", "-recursive", "-no-color", folder=ROOT)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.process
def test_checkov_finds_nothing_without_a_reason(tmp_path):
    if not CHECKOV.exists():
        pytest.skip("NOT INSTALLED: checkov (`make kube-tools`)")
    # A registry's modules have versions and no commits; theirs are exact, as a test below says.
    accepted = {"CKV_TF_1"}

    def found() -> set[str]:
        command = [CHECKOV, "--skip-download", "--framework", "terraform", "--output", "json"]
        done = subprocess.run(
            [*command, "--directory", tmp_path / "terraform"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        report = json.loads(done.stdout)
        assert report["summary"]["parsing_errors"] == 0
        assert report["summary"]["passed"] > 40
        return {each["check_id"] for each in report["results"]["failed_checks"]}

    # Its parser is too old for *.tftest.hcl.
    ignored = shutil.ignore_patterns(".*", "tests")
    shutil.copytree(ROOT, tmp_path / "terraform", ignore=ignored)
    assert found() == accepted
    template = tmp_path / "terraform" / "modules" / "asg" / "main.tf"
    template.write_text(template.read_text().replace('"required"', '"optional"'))
    assert found() == accepted | {"CKV_AWS_79"}


@pytest.mark.process
def test_the_sizing_module_passes_its_own_tests(copied):
    assert run("init", "-backend=false", folder=copied).returncode == 0
    assert run("validate", folder=copied).returncode == 0
    done = run("test", "-no-color", folder=copied)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b9 passed, 0 failed", done.stdout)


@pytest.mark.process
def test_the_sizing_module_s_tests_notice_a_change(copied):
    main = copied / "main.tf"
    main.write_text(main.read_text().replace("/ var.pod_rate_target", "/ var.pod_rate_held"))
    assert run("init", "-backend=false", folder=copied).returncode == 0
    assert run("test", "-no-color", folder=copied).returncode == 1


def test_python_reckons_what_the_module_s_tests_expect():
    """Checks the arithmetic where no terraform is, and Python's reading of it where one is."""
    with (ROOT / "modules/sizing/tests/sizing.tftest.hcl").open() as file:
        tests = hcl2.load(file)
    (given,) = tests["variables"]
    checked = 0
    for block in tests["run"]:
        for body in block.values():
            if not isinstance(body, dict) or "expect_failures" in body:
                continue
            changed = body.get("variables", [{}])[0]
            values = {
                name: float(value)
                for name, value in (given | changed).items()
                if not name.startswith("__")
            }
            found = sizing(values)
            for assertion in body["assert"]:
                for name, wanted in re.findall(
                    r"output\.(\w+) == ([\d.]+)", assertion["condition"]
                ):
                    assert found[name] == float(wanted), (block, name)
                    checked += 1
    assert checked >= 9


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_variables_are_declared_and_used(module):
    used = {*re.findall(r"\bvar\.(\w+)", text_of(module))}
    assert used == labelled(module, "variable").keys()


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_what_is_referred_to_is_there(module):
    text = text_of(module)
    declared = {
        f"{prefix}{plain(kind)}.{plain(label)}"
        for prefix, block in (("", "resource"), ("data.", "data"))
        for found in blocks(module, block)
        for kind, bodies in found.items()
        for label in bodies
    }
    kinds = "|".join({name.removeprefix("data.").partition(".")[0] for name in declared} or {"-"})
    referred = {
        f"{data}{kind}.{label}"
        for data, kind, label in re.findall(rf"\b(data\.)?({kinds})\.([a-z_]\w*)", text)
    }
    assert referred <= declared
    # A kind that is referred to and never declared has no place in the pattern above.
    assert not {
        kind for kind in re.findall(r"[^\w.\"-](aws_\w+|helm_\w+)\.", text) if kind not in kinds
    }
    names = {name for block in blocks(module, "locals") for name in block}
    assert {*re.findall(r"\blocal\.(\w+)", text)} <= names
    modules = labelled(module, "module")
    assert {*re.findall(r"\bmodule\.(\w+)", text)} <= modules.keys()


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_calls_of_our_modules_pass_what_they_take(module):
    meta = {"source", "count", "for_each", "depends_on", "providers"}
    for call in labelled(module, "module").values():
        source = plain(call["source"])
        if not source.startswith("./"):
            continue
        variables = labelled(module / source, "variable")
        passed = {name for name in call if not name.startswith("__")} - meta
        required = {name for name, body in variables.items() if "default" not in body}
        assert required <= passed <= variables.keys(), source
        outputs = labelled(module / source, "output")
        name = source.rpartition("/")[2]
        read = re.findall(rf"\bmodule\.{name}(?:\[[^]]*\])?\.(\w+)", text_of(module))
        assert {*read} <= outputs.keys()


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_what_is_taken_from_others_is_pinned(module):
    for call in labelled(module, "module").values():
        if not plain(call["source"]).startswith("./"):
            assert EXACT.fullmatch(call["version"]), call["source"]
    for block in blocks(module, "resource"):
        for release in block.get('"helm_release"', {}).values():
            version = release["version"]
            if version == "${local.version}":
                version = next(found["version"] for found in blocks(module, "locals"))
            assert EXACT.fullmatch(version), release["name"]
            assert release["repository"] == "${var.chart_registry}"
    if module == ROOT:
        (settings,) = blocks(module, "terraform")
        (providers,) = settings["required_providers"]
        versions = [each["version"] for each in providers.values() if isinstance(each, dict)]
        assert len(versions) == 2
        assert all(map(EXACT.fullmatch, versions))


def test_nodes_have_the_label_and_taint_that_pods_ask_for():
    groups = re.findall(r"(\w+) = \{\n\s+zones\b", (ROOT / "main.tf").read_text())
    template = (ROOT / "modules/asg/node.tftpl").read_text()
    (label,) = re.findall(r"--node-labels=([\w./-]+)=\$\{service\}", template)
    assert re.search(rf"--register-with-taints={label}=\$\{{service\}}:NoSchedule", template)
    assert groups == ["front"]
    folder = ROOT.parent / "components" / "nodes" / "asg"
    if not folder.exists():
        pytest.skip("no components/nodes/asg to compare with")
    for service in ("front", "ledger"):
        assert f"{label}: {service}" in (folder / f"{service}.yaml").read_text()
