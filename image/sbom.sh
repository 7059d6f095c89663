#!/usr/bin/env bash
# sbom.sh TARGET FOLDER: write what the built image is made of, Debian's packages and Python's, to
# FOLDER/TARGET.cdx.json (CycloneDX), and the image itself to FOLDER/TARGET (an OCI layout).
set -euo pipefail
cd "$(dirname "$0")/.."
target=$1 folder=$2
name=adcore
[ "$target" = front ] || name=adcore-$target
mkdir -p "$folder"
rm -rf "${folder:?}/$target"
buildah push --quiet "localhost/$name" "oci:$folder/$target:$name"
export SYFT_CHECK_FOR_APP_UPDATE=false
.venv/bin/syft scan --quiet "oci-dir:$folder/$target" --source-name "$name" \
    --output "cyclonedx-json=$folder/$target.cdx.json"
