-- Forgets all counts of a shard, so that they can be made again from its log. All or nothing.
--
-- KEYS: cursor, transactions (see apply_counts), time, buckets, then the hash of each bucket
-- ARGV: the cursor expected, the cursor after it
-- Returns nil, or the cursor found with nothing changed if it is another one: an empty string where
-- there is none, as after a flush; "torn" if the counts have half a transaction in them.
local ends = redis.call('HMGET', KEYS[2], 'begun', 'done')
local found = ends[1] == ends[2] and (redis.call('GET', KEYS[1]) or '') or 'torn'
if found ~= ARGV[1] then
  return found
end
redis.call('HINCRBY', KEYS[2], 'begun', 1)
-- No time: who reads counts by it must not take those of a rebuild that has just begun for all.
redis.call('DEL', KEYS[3])
for i = 5, #KEYS do
  redis.call('UNLINK', KEYS[i])
end
redis.call('DEL', KEYS[4])
redis.call('SET', KEYS[1], ARGV[2])
redis.call('DEL', KEYS[2])
return false
