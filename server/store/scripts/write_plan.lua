-- Makes a plan current, unless a newer one is. All or nothing.
--
-- KEYS: current, version
-- ARGV: the plan's version, the plan, for how many seconds it is kept
-- Returns 1, or 0 with nothing changed.
local found = tonumber(redis.call('GET', KEYS[2]) or '0')
if found >= tonumber(ARGV[1]) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
redis.call('SET', KEYS[2], ARGV[1])
return 1
