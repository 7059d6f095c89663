"""Every document of every combination fits its schema: Kubernetes' own, for each version that we
name, those of the operators that we use, and the style that yamllint holds.
"""

import copy
import json
import shutil
import subprocess
from concurrent.futures import ProcessPoolExecutor
from functools import cache

import pytest

from tests.kube import K8S, ROOT, Document, everything, find, rendered

VERSIONS = ("1.31", "1.32", "1.33", "1.34", "1.35", "1.36")
MODELS = ROOT / "build/tools/kubernetes-models/node_modules"
# Which package has the schemas of a group; None where nobody publishes them as a package.
PACKAGES = {
    "argoproj.io": "argo-rollouts",
    "external-secrets.io": "external-secrets",
    "gateway.k8s.aws": None,
    "gateway.networking.k8s.io": "gateway-api",
    "karpenter.k8s.aws": "karpenter",
    "karpenter.sh": "karpenter",
    "keda.sh": "keda",
    "monitoring.coreos.com": "prometheus-operator",
}
# [path of a model, document], ... -> the faults of each, where there are any.
SCRIPT = """
import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
const faults = [];
for (const [file, document] of JSON.parse(readFileSync(0))) {
  const Model = (await import(pathToFileURL(file)))[document.kind];
  try { new Model(document).validate(); }
  catch (error) { faults.push(`${document.kind} ${document.metadata.name}: ${error.message}`); }
}
console.log(JSON.stringify(faults));
"""

pytestmark = pytest.mark.process


def group_of(document: Document) -> str:
    """Empty for what is Kubernetes' own, as `networking.k8s.io` is in a schema's name."""
    group = document["apiVersion"].rpartition("/")[0]
    return group if group in PACKAGES else ""


def schema_faults(version: str, documents: list[Document]) -> list[str]:
    validate = pytest.importorskip(
        "kubernetes_validate", reason="NOT INSTALLED: kubernetes-validate"
    )
    # It reads half a megabyte of definitions again for each document.
    if not hasattr(validate.utils.schema_contents, "cache_info"):
        validate.utils.schema_contents = cache(validate.utils.schema_contents)
    faults = []
    for document in documents:
        try:
            validate.validate(document, version, strict=True)
        except validate.SchemaNotFoundError:
            faults.append(f"{document['kind']}: not of Kubernetes {version}, and in no package")
        except validate.ValidationError as error:
            faults.append(f"{document['kind']} {document['metadata']['name']}: {error.message}")
    return faults


def model_faults(documents: list[Document]) -> list[str]:
    if shutil.which("node") is None or not MODELS.exists():
        pytest.skip("NOT INSTALLED: @kubernetes-models for Node.js (`make kube-tools`)")
    asked = []
    for document in documents:
        package = PACKAGES[group_of(document)]
        if package is not None:
            path = MODELS / "@kubernetes-models" / package / document["apiVersion"]
            asked.append([str(path / f"{document['kind']}.js"), document])
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", SCRIPT],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@cache
def by_origin() -> tuple[list[Document], list[Document]]:
    """Kubernetes' own documents, and those of operators."""
    documents = everything()
    return (
        [each for each in documents if not group_of(each)],
        [each for each in documents if group_of(each)],
    )


def test_every_document_fits_every_version_of_kubernetes():
    own = by_origin()[0]
    with ProcessPoolExecutor(2) as pool:
        faults = pool.map(schema_faults, VERSIONS, [own] * len(VERSIONS))
        assert dict(zip(VERSIONS, faults, strict=True)) == {version: [] for version in VERSIONS}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_word_that_is_spelt_wrong_is_found(version):
    front = find(rendered("production"), "Deployment", "adcore-front")
    assert schema_faults(version, [front]) == []
    sidecar = front["spec"]["template"]["spec"]["initContainers"][0]
    sidecar["restartPolcy"] = sidecar.pop("restartPolicy")
    assert "restartPolcy" in schema_faults(version, [front])[0]


def test_operators_documents_fit_their_schemas():
    theirs = by_origin()[1]
    assert {"NodePool", "EC2NodeClass", "HTTPRoute", "ExternalSecret"} <= {
        each["kind"] for each in theirs
    }
    assert model_faults(theirs) == []


def test_an_operator_that_knows_no_such_word_is_asked():
    pool = copy.deepcopy(find(by_origin()[1], "NodePool", "adcore-front"))
    pool["spec"]["template"]["spec"]["requirements"][0]["operator"] = "Inn"
    assert "adcore-front" in model_faults([pool])[0]


def test_yaml_is_as_yamllint_wants_it():
    yamllint = ROOT / ".venv/bin/yamllint"
    if not yamllint.exists():
        pytest.skip("NOT INSTALLED: yamllint")
    done = subprocess.run(
        [yamllint, "--strict", "-c", K8S / ".yamllint", K8S],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
