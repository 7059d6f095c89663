"""The pipelines are well-formed, run what the repository runs, and hold no key."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
ACTIONLINT = ROOT / "build/tools/bin/actionlint"
GITHUB = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CIRCLE = ROOT / ".circleci" / "config.yml"
PIPELINES = [*GITHUB, CIRCLE]
OVERLAYS = {path.name for path in (ROOT / "k8s" / "overlays").iterdir()}

# Of schema v4beta13, what is used here. The schema itself comes with Skaffold's source alone, which
# the Go module proxy does not give, so these names are by its documentation.
SKAFFOLD = {
    "": {"apiVersion", "kind", "metadata", "build", "manifests", "deploy", "profiles"},
    "metadata": {"name"},
    "build": {"artifacts", "tagPolicy", "local"},
    "build.artifacts": {"image", "docker", "platforms"},
    "build.artifacts.docker": {"dockerfile", "target"},
    "build.tagPolicy": {"inputDigest"},
    "build.tagPolicy.inputDigest": set(),
    "build.local": {"push", "useBuildkit"},
    "manifests": {"kustomize"},
    "manifests.kustomize": {"paths"},
    "deploy": {"kubectl", "statusCheckDeadlineSeconds"},
    "deploy.kubectl": set(),
    "profiles": {"name", "build", "manifests", "deploy"},
}


def checked(schema: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Hold files against a schema that the checker brings along; it asks nobody."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *paths]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.process
@pytest.mark.parametrize(
    ("schema", "paths"), [("vendor.github-workflows", GITHUB), ("vendor.circle-ci", [CIRCLE])]
)
def test_pipelines_are_what_their_schema_says(schema, paths, tmp_path):
    done = checked(schema, *paths)
    assert done.returncode == 0, done.stdout
    broken = tmp_path / "broken.yml"
    broken.write_text(re.sub(r"(?m)^jobs:$", "jobs: [none]\nmore:", paths[0].read_text()))
    assert checked(schema, broken).returncode == 1


@pytest.mark.process
def test_expressions_and_scripts_of_workflows_hold(tmp_path):
    if not ACTIONLINT.exists():
        pytest.skip("NOT INSTALLED: actionlint (`make kube-tools`)")

    def linted(*paths: Path) -> subprocess.CompletedProcess[str]:
        command = [ACTIONLINT, "-no-color", *paths]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    done = linted(*GITHUB)
    assert done.returncode == 0, done.stdout
    broken = tmp_path / "broken.yml"
    broken.write_text(GITHUB[0].read_text().replace("github.ref", "github.reff"))
    assert linted(broken).returncode == 1


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.name)
def test_no_pipeline_holds_or_takes_a_key(path):
    text = path.read_text()
    assert "secrets." not in text
    assert not re.search(r"(?i)(access_key|secret_key|password:|(?<!id-)token: )", text)


def test_actions_are_pinned_by_commit():
    for path in GITHUB:
        for action in re.findall(r"uses: (\S+)", path.read_text()):
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", action), action


def test_only_the_deployment_may_ask_for_credentials():
    for path in GITHUB:
        workflow = yaml.safe_load(path.read_text())
        assert workflow["permissions"] == {"contents": "read"}
        for name, job in workflow["jobs"].items():
            grants = job.get("permissions", {})
            assert ("id-token" in grants) == (name == "deploy")


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.name)
def test_what_pipelines_run_is_here(path):
    text = path.read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([a-z-]+)", text):
        assert re.search(rf"(?m)^{target}:", makefile), target
    assert not re.findall(r"\.ci/(?!run\b)\w+", text)
    for word in re.findall(r"for overlay in ([\w ]+);", text):
        assert {*word.split()} == OVERLAYS


def test_all_that_passes_is_the_one_script():
    for path in (ROOT / ".github/workflows/ci.yml", CIRCLE):
        assert ".ci/run" in path.read_text()


# -- skaffold


def keys(place: str, value: object) -> None:
    if isinstance(value, list):
        for each in value:
            keys(place, each)
    elif isinstance(value, dict):
        # A profile's parts are those of the whole.
        known = place.removeprefix("profiles.") if place != "profiles" else place
        assert value.keys() <= SKAFFOLD[known], (place, value)
        for name, part in value.items():
            keys(f"{place}.{name}".strip("."), part)


@pytest.fixture(scope="module")
def skaffold():
    return yaml.safe_load((ROOT / "skaffold.yaml").read_text())


def test_skaffold_s_keys_are_those_of_its_version(skaffold):
    assert skaffold["apiVersion"] == "skaffold/v4beta13"
    keys("", skaffold)


def test_each_profile_renders_its_overlay_with_the_image_that_it_builds(skaffold):
    profiles = {profile["name"]: profile for profile in skaffold["profiles"]}
    assert profiles.keys() == OVERLAYS
    for name, profile in profiles.items():
        found = skaffold | profile
        (path,) = found["manifests"]["kustomize"]["paths"]
        assert path == f"k8s/overlays/{name}"
        assert (ROOT / path / "kustomization.yaml").exists()
        assert "inputDigest" in found["build"]["tagPolicy"]
        # Skaffold puts its tag where it finds the image's name: no overlay may give it another.
        overlay = yaml.safe_load((ROOT / path / "kustomization.yaml").read_text())
        images = {image["name"]: image for image in overlay["images"]}
        for artifact in found["build"]["artifacts"]:
            assert "newName" not in images[artifact["image"]]
        assert found["build"]["local"]["push"] == (name != "dev")


def test_the_pipelines_deploy_by_profiles_that_there_are(skaffold):
    names = {profile["name"] for profile in skaffold["profiles"]}
    circle = yaml.safe_load(CIRCLE.read_text())
    enum = circle["jobs"]["deploy"]["parameters"]["profile"]["enum"]
    assert {*enum} <= names
    deploy = (ROOT / ".github/workflows/deploy.yml").read_text()
    assert {*re.findall(r"'(production|staging)'", deploy)} <= names
