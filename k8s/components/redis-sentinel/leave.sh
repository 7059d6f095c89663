#!/bin/sh
# The server's preStop hook: a primary hands over first, so a planned end costs no failover by timeout
# and loses nothing. 20 s at most; then it ends as it is, and the sentinels decide.
redis() { redis-cli -h "${BIND:-127.0.0.1}" "$@" 2>/dev/null; }
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ "$(redis -p "$REDIS_PORT" --raw role | head -n 1)" = master ] || exit 0
    redis -p "$SENTINEL_PORT" sentinel failover adcore >/dev/null
    sleep 1
done
