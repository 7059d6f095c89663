#!/bin/sh
# Print who is primary: what a sentinel that is up says, else what ours knew when it was last up, else
# the first pod. Asking in this order, a pod that comes back late follows instead of taking over.
for host in $REDIS_HOSTS; do
    [ "$host" = "$ME" ] && continue
    # One that is starting, or away, must not hold us up. Sentinels refuse who brings a password that
    # they have not asked for.
    found=$(unset REDISCLI_AUTH && timeout 2 redis-cli -h "$host" -p "$SENTINEL_PORT" --raw \
        SENTINEL get-master-addr-by-name adcore 2>/dev/null | head -n 1)
    case "$found" in
        "" | *" "*) ;; # no answer, or an error
        *) echo "$found" && exit 0 ;;
    esac
done
known=$(sed -n 's/^sentinel monitor adcore \([^ ]*\) .*/\1/p' "$DATA/sentinel.conf" 2>/dev/null)
echo "${known:-${REDIS_HOSTS%% *}}"
