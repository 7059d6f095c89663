-- Takes the lead, or keeps it, unless another one has it.
--
-- KEYS: the lock
-- ARGV: our name, for how many milliseconds
-- Returns who leads by now. Taking and renewing are one: a lock that ran out and that nobody took
-- meanwhile is as good as one that was kept.
local leader = redis.call('GET', KEYS[1])
if leader and leader ~= ARGV[1] then
  return leader
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
