#!/bin/sh
# The server's preStop hook: a primary hands over first, so a planned end costs no failover by timeout
# and loses nothing. 20 s at most; then it ends as it is, and the sentinels decide.
host=${BIND:-127.0.0.1}
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ "$(redis-cli -h "$host" -p "$REDIS_PORT" --raw role | head -n 1)" = master ] || exit 0
    # Without the password: sentinels refuse one that they have not asked for.
    (unset REDISCLI_AUTH && redis-cli -h "$host" -p "$SENTINEL_PORT" sentinel failover adcore)
    sleep 1
done
