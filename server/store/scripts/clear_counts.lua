-- Forgets all counts of a shard, so that they can be made again from its log. All or nothing.
--
-- KEYS: cursor, hours, then the hash of each hour
-- ARGV: the cursor expected, the cursor after it, then each hour's number
-- Returns nil, or the cursor found with nothing changed if it is another one: an empty string where
-- there is none, as after a flush.
local found = redis.call('GET', KEYS[1]) or ''
if found ~= ARGV[1] then
  return found
end
for i = 3, #KEYS do
  redis.call('DEL', KEYS[i])
  redis.call('SREM', KEYS[2], ARGV[i])
end
redis.call('SET', KEYS[1], ARGV[2])
return false
