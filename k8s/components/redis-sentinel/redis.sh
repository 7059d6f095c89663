#!/bin/sh
# Start the server as primary or replica. Its settings are made anew at each start: who is primary is
# the sentinels' to know, and a file that a failover has rewritten may be out of date.
set -eu
primary=$(sh "$(dirname "$0")/primary.sh")
umask 077
{
    echo "port $REDIS_PORT"
    echo "dir $DATA"
    echo "replica-announce-ip $ME"
    echo "requirepass $REDISCLI_AUTH"
    echo "masterauth $REDISCLI_AUTH"
    # Counts are made again from the ledger's log, but that takes minutes: keep them on the disk.
    echo "appendonly yes"
    echo "appendfsync everysec"
    # Full means refused, never forgotten: an evicted count would be money spent twice.
    echo "maxmemory $REDIS_MAXMEMORY"
    echo "maxmemory-policy noeviction"
    # Cut off from all replicas it takes no writes: they would be lost when it comes back as one.
    echo "min-replicas-to-write 1"
    echo "min-replicas-max-lag 5"
    [ "$primary" = "$ME" ] || echo "replicaof $primary $REDIS_PORT"
    [ -z "${BIND:-}" ] || echo "bind $BIND"
} >"$RUN/redis.conf"
exec redis-server "$RUN/redis.conf"
