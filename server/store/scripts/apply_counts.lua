-- Adds what a stretch of the log counts, and moves the cursor over it. All or nothing.
--
-- All or nothing, but for Redis itself: it loads a log that was torn inside a transaction, forgets
-- the torn half, and leaves it in the file (seen with 6.2). The next start takes that half into the
-- next transaction. So each one counts itself first and last, and a difference tells on it.
--
-- KEYS: cursor, transactions, hours, then the hash of each hour
-- ARGV: the cursor expected, the cursor after it, how many seconds an hour is kept (0: for ever),
--       then for each hour: its number, how many pairs follow, the pairs of field and delta
-- Returns nil, or the cursor found with nothing changed if it is another one: an empty string where
-- there is none, as after a flush; "torn" if the counts have half a transaction in them.
local cursor, transactions, hours = KEYS[1], KEYS[2], KEYS[3]
local ends = redis.call('HMGET', transactions, 'begun', 'done')
if ends[1] ~= ends[2] then
  return 'torn'
end
local found = redis.call('GET', cursor) or ''
if found ~= ARGV[1] then
  return found
end
redis.call('HINCRBY', transactions, 'begun', 1)
local at = 4
for i = 4, #KEYS do
  redis.call('SADD', hours, ARGV[at])
  local last = at + 1 + 2 * tonumber(ARGV[at + 1])
  for j = at + 2, last, 2 do
    redis.call('HINCRBY', KEYS[i], ARGV[j], ARGV[j + 1])
  end
  if ARGV[3] ~= '0' then
    redis.call('EXPIRE', KEYS[i], ARGV[3])
  end
  at = last + 1
end
redis.call('SET', cursor, ARGV[2])
redis.call('HINCRBY', transactions, 'done', 1)
return false
