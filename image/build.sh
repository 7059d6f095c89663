#!/usr/bin/env bash
# build.sh [TARGET]: build the image with buildah, as `adcore` or, for the target `control`, as
# `adcore-control`.
#
# BUILDER, BASE   see the Dockerfile. Without BUILDER a Debian is bootstrapped from its mirror, once:
#                 neither a registry nor Docker is needed, but root is.
# PIP_CERT        pip's own: the authority of a proxy between us and the package index
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:-front}
name=adcore
[ "$target" = front ] || name=adcore-$target
# Without runc and cgroups: what runs in the build is Debian's and ours.
export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot}

if [ -z "${BUILDER:-}" ]; then
    BUILDER=localhost/debian:trixie-slim
    if ! buildah inspect --type image "$BUILDER" >/dev/null 2>&1; then
        container=$(buildah from scratch)
        archive=$(mktemp --suffix=.tar)
        mmdebstrap --quiet --variant=minbase trixie "$archive"
        buildah add --quiet "$container" "$archive" / >/dev/null
        rm "$archive"
        buildah commit --quiet --rm "$container" "$BUILDER" >/dev/null
    fi
fi

arguments=(--build-arg "BUILDER=$BUILDER")
[ -z "${BASE:-}" ] || arguments+=(--build-arg "BASE=$BASE")
[ -z "${PIP_CERT:-}" ] || arguments+=(--secret "id=certificates,src=$PIP_CERT")
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
[ "$revision" = unknown ] || git diff --quiet HEAD || revision+=-dirty
exec buildah bud --layers --target "$target" --build-arg "REVISION=$revision" \
    --tag "$name" "${arguments[@]}" .
