-- Forgets all counts of a shard, so that they can be made again from its log. All or nothing.
--
-- KEYS: cursor, transactions (see apply_counts), hours, then the hash of each hour
-- ARGV: the cursor expected, the cursor after it, then each hour's number
-- Returns nil, or the cursor found with nothing changed if it is another one: an empty string where
-- there is none, as after a flush; "torn" if the counts have half a transaction in them.
local ends = redis.call('HMGET', KEYS[2], 'begun', 'done')
local found = ends[1] == ends[2] and (redis.call('GET', KEYS[1]) or '') or 'torn'
if found ~= ARGV[1] then
  return found
end
redis.call('HINCRBY', KEYS[2], 'begun', 1)
for i = 4, #KEYS do
  redis.call('DEL', KEYS[i])
  redis.call('SREM', KEYS[3], ARGV[i - 1])
end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('DEL', KEYS[2])
return false
