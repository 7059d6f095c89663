# syntax=docker/dockerfile:1
# The image: `front` (the default; everything but control) and `control` (the same and numpy).
#
# BUILDER is any Debian trixie. BASE is what the image stands on: nothing, and then it gets what
# CPython needs of Debian; or any image with glibc and /usr/bin/python3.13.
# docs/image.md tells how to build it, with a registry or without.
#
#checkov:skip=CKV_DOCKER_2:the kubelet probes; OCI images have no health check
ARG BUILDER=debian:trixie-slim
ARG BASE=scratch

# -- what compiles, and what CPython needs at run time, as packages not unpacked yet
FROM ${BUILDER} AS tools
WORKDIR /debs
# Versions are BUILDER's: pin it by digest, and all of this is pinned. Pins here would only break on
# the day that Debian publishes a fix.
# hadolint ignore=DL3008
RUN apt-get update -q \
    && apt-get install -q -y --no-install-recommends \
        ca-certificates gcc libc6-dev python3.13-dev python3.13-venv \
    && apt-get download -q \
        base-files libc6 libgcc-s1 python3.13-minimal libpython3.13-minimal libpython3.13-stdlib \
        libbz2-1.0 libexpat1 libffi8 liblzma5 libssl3t64 libstdc++6 libuuid1 libzstd1 zlib1g \
    && rm -rf /var/lib/apt/lists/*

# -- a root without a shell, a package manager or anything that is set-uid
FROM tools AS root
ARG BASE
WORKDIR /root-of-image
COPY image/root.sh /debs/
RUN if [ "${BASE}" = scratch ]; then sh /debs/root.sh /debs /root-of-image; fi

# -- the wheel, and a virtual environment in which nothing else is
FROM tools AS wheel
WORKDIR /source
COPY image/pip.sh image/requirements.txt image/requirements-control.txt image/
RUN --mount=type=secret,id=certificates \
    python3.13 -m venv /build \
    && python3.13 -m venv --without-pip /opt/adcore \
    && sh image/pip.sh install setuptools==80.9.0 cython==3.3.1 \
    && PYTHON=/opt/adcore/bin/python sh image/pip.sh install \
        --no-deps --only-binary :all: -r image/requirements.txt \
    && sh image/pip.sh install \
        --no-deps --only-binary :all: --target /opt/control -r image/requirements-control.txt \
    && rm -rf /opt/control/bin
# What is compiled first, alone: a change of Python then costs seconds and not minutes.
COPY setup.py ./
COPY adcore/__init__.py adcore/*.pyx adcore/*.pxd adcore/
COPY server/__init__.py server/
COPY server/delivery/__init__.py server/delivery/*.pyx server/delivery/*.pxd server/delivery/
COPY server/events/__init__.py server/events/*.pyx server/events/
COPY server/ledger/__init__.py server/ledger/*.pyx server/ledger/*.pxd server/ledger/
RUN /build/bin/python setup.py -q build_ext
COPY pyproject.toml README.md LICENSE ./
COPY adcore adcore
COPY server server
RUN sh image/pip.sh wheel --no-build-isolation --no-deps --wheel-dir /wheels .
COPY image/install.sh image/
RUN sh image/install.sh

# -- the image
# hadolint ignore=DL3006
FROM ${BASE} AS app
COPY --from=root /root-of-image /
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="adcore" \
      org.opencontainers.image.description="A self-hosted ad server" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=wheel /opt/adcore /opt/adcore
# Bytecode is there already, and the root is read-only.
ENV PATH=/opt/adcore/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    LANG=C.UTF-8
# By number: a kubelet that must see that it is not root can't look up a name.
USER 65532:65532
WORKDIR /tmp
STOPSIGNAL SIGTERM
ENTRYPOINT ["adcore"]

FROM app AS control
COPY --from=wheel /opt/control /opt/adcore/lib/python3.13/site-packages
CMD ["control"]

FROM app AS front
CMD ["serve"]
