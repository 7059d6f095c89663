-- Adds what a stretch of the log counts, and moves the cursor over it. All or nothing.
--
-- All or nothing, but for Redis itself: it loads a log that was torn inside a transaction, forgets
-- the torn half, and leaves it in the file (seen with 6.2). The next start takes that half into the
-- next transaction. So each one counts itself first and last, and a difference tells on it.
--
-- KEYS: cursor, transactions, time, buckets, then the hash of each bucket
-- ARGV: the cursor expected, the cursor after it, the log's time there (empty: not to be told),
--       then for each bucket: its name, how many seconds it is kept (0: for ever), how many pairs
--       follow, the pairs of field and delta
-- Returns nil, or the cursor found with nothing changed if it is another one: an empty string where
-- there is none, as after a flush; "torn" if the counts have half a transaction in them.
local cursor, transactions, time, buckets = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local ends = redis.call('HMGET', transactions, 'begun', 'done')
if ends[1] ~= ends[2] then
  return 'torn'
end
local found = redis.call('GET', cursor) or ''
if found ~= ARGV[1] then
  return found
end
local now_s = tonumber(redis.call('TIME')[1])
redis.call('HINCRBY', transactions, 'begun', 1)
-- A bucket that has expired needs no clearing any more. A second or two later it surely has.
redis.call('ZREMRANGEBYSCORE', buckets, '-inf', '(' .. now_s - 1)
local at = 4
for i = 5, #KEYS do
  local kept_s = tonumber(ARGV[at + 1])
  redis.call('ZADD', buckets, kept_s > 0 and now_s + kept_s or '+inf', ARGV[at])
  local last = at + 2 + 2 * tonumber(ARGV[at + 2])
  for j = at + 3, last, 2 do
    redis.call('HINCRBY', KEYS[i], ARGV[j], ARGV[j + 1])
  end
  if kept_s > 0 then
    redis.call('EXPIRE', KEYS[i], kept_s)
  end
  at = last + 1
end
if ARGV[3] ~= '' then
  redis.call('SET', time, ARGV[3])
else
  redis.call('DEL', time)
end
redis.call('SET', cursor, ARGV[2])
redis.call('HINCRBY', transactions, 'done', 1)
return false
