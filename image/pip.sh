# pip.sh ARGUMENTS: pip as this image wants it.
#
# Without bytecode of pip's making: that holds the times of its sources, which a copy may not keep.
# Behind a proxy with a certificate of its own, its authority comes as the secret `certificates`.
set -eu
if [ -f /run/secrets/certificates ]; then
    export PIP_CERT=/run/secrets/certificates
fi
export PIP_QUIET=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
verb=$1
shift
if [ "$verb" = install ]; then
    set -- --no-compile "$@"
fi
exec /build/bin/pip ${PYTHON:+--python "$PYTHON"} "$verb" "$@"
