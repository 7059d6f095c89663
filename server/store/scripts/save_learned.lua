-- Keeps what control has learned, unless something newer is there: a leader that was stopped in the
-- middle and goes on later must not take its successor's knowledge away.
--
-- KEYS: what was learned
-- ARGV: the number of the plan that it goes with, the bytes
-- Returns 1, or 0 with nothing changed.
local found = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
if found > tonumber(ARGV[1]) then
  return 0
end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'learned', ARGV[2])
return 1
