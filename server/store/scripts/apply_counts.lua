-- Adds what a stretch of the log counts, and moves the cursor over it. All or nothing.
--
-- KEYS: cursor, hours, then the hash of each hour
-- ARGV: the cursor expected, the cursor after it, how many seconds an hour is kept (0: for ever),
--       then for each hour: its number, how many pairs follow, the pairs of field and delta
-- Returns nil, or the cursor found with nothing changed if it is another one: an empty string where
-- there is none, as after a flush.
local cursor, hours = KEYS[1], KEYS[2]
local found = redis.call('GET', cursor) or ''
if found ~= ARGV[1] then
  return found
end
local at = 4
for i = 3, #KEYS do
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
return false
