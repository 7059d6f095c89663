#!/bin/sh
# Start the sentinel. Its file is its memory (votes, epochs, who is primary), so it lies on the disk and
# is written only once.
set -eu
if [ ! -s "$DATA/sentinel.conf" ]; then
    primary=$(sh "$(dirname "$0")/primary.sh")
    # A name that the DNS does not know yet would end it.
    until redis-cli -h "$primary" -p "$REDIS_PORT" ping >/dev/null 2>&1; do sleep 1; done
    umask 077
    {
        echo "port $SENTINEL_PORT"
        echo "dir $RUN"
        # Names outlive addresses: a pod that comes back has another one.
        echo "sentinel resolve-hostnames yes"
        echo "sentinel announce-hostnames yes"
        echo "sentinel announce-ip $ME"
        echo "sentinel announce-port $SENTINEL_PORT"
        echo "sentinel monitor adcore $primary $REDIS_PORT 2"
        echo "sentinel auth-pass adcore $REDISCLI_AUTH"
        # Long enough that a slow fork is no failover; leases of 20 s bridge the rest.
        echo "sentinel down-after-milliseconds adcore ${DOWN_AFTER_MS:-5000}"
        echo "sentinel failover-timeout adcore 30000"
        echo "sentinel parallel-syncs adcore 1"
        [ -z "${BIND:-}" ] || echo "bind $BIND"
    } >"$DATA/sentinel.new"
    mv "$DATA/sentinel.new" "$DATA/sentinel.conf"
fi
exec redis-server "$DATA/sentinel.conf" --sentinel
