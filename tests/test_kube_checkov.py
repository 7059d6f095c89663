"""Checkov finds nothing in k8s/ but what we have a reason for; and each reason is still needed."""

import json
import subprocess

import pytest
import yaml

from tests.kube import CLUSTER, ROOT, documents, every, find, rendered

CHECKOV = ROOT / "build/tools/checkov/bin/checkov"
EVERYWHERE = {
    "CKV_K8S_11": "no CPU limits: being throttled for the rest of 100 ms is our slowest request",
    "CKV_K8S_15": "images are pinned, so what is on the node is what would be pulled",
    "CKV_K8S_35": "settings are the environment, read once and never logged",
    "CKV_K8S_43": "a deployment sets the digest that it has just built; no commit can know it",
}
OF_ONE = {
    "Deployment.adcore.adcore-headroom": {
        "CKV_K8S_8": "a pause pod does nothing that could be alive",
        "CKV_K8S_9": "nor ready",
    },
    "DaemonSet.kube-system.node-local-dns": {
        "CKV_K8S_9": "nobody's traffic waits for it: without it names are asked for elsewhere",
        "CKV_K8S_19": "it answers at an address of the node",
        "CKV_K8S_22": "it writes its own settings, with CoreDNS' address filled in",
        "CKV_K8S_23": "it changes the node's packet filter",
        "CKV_K8S_25": "as above",
        "CKV_K8S_28": "as above",
        "CKV_K8S_37": "as above",
        "CKV_K8S_40": "as above",
    },
}

pytestmark = pytest.mark.process


def found(docs, folder):
    """Give (check, resource) for each that failed."""
    if not CHECKOV.exists():
        pytest.skip("NOT INSTALLED: checkov (`make kube-tools`)")
    (folder / "all.yaml").write_text(yaml.safe_dump_all(docs))
    # Without --skip-download it asks a host of its maker's.
    command = [CHECKOV, "--skip-download", "--framework", "kubernetes", "--quiet", "--compact"]
    done = subprocess.run(
        [*command, "--output", "json", "--file", folder / "all.yaml"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] + report["summary"]["failed"] > 10, done.stderr
    return {(each["check_id"], each["resource"]) for each in report["results"]["failed_checks"]}


def test_nothing_is_found_without_a_reason_and_no_reason_is_idle(tmp_path):
    docs = {
        (doc["kind"], doc["metadata"]["name"]): doc
        for combination, rendered_docs in every()
        if combination[0] == "production"
        for doc in rendered_docs
    }
    cluster = [doc for folder in CLUSTER for doc in documents(folder)]
    faults = found([*docs.values(), *cluster], tmp_path)
    reasons = {(check, name) for name, checks in OF_ONE.items() for check in checks}
    assert {fault for fault in faults if fault[0] not in EVERYWHERE} == reasons
    assert set(EVERYWHERE) <= {check for check, _ in faults}


def test_a_planted_fault_is_found(tmp_path):
    docs = rendered("production")
    pod = find(docs, "Deployment", "adcore-control")["spec"]["template"]["spec"]
    pod["hostNetwork"] = True
    pod["containers"][0]["securityContext"]["privileged"] = True
    faults = found([find(docs, "Deployment", "adcore-control")], tmp_path)
    assert {"CKV_K8S_16", "CKV_K8S_19"} <= {check for check, _ in faults}
