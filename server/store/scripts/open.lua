-- Opens accounts that are new, each with what is spent of it up to the last window settled.
--
-- KEYS: state, the bases
-- ARGV: the window that the amounts go up to, then for each base: how many seconds it is kept (0: for
--       ever), and as msgpack: [name, amount, name, amount ...]
-- Returns nil, or the last window settled, with nothing changed, if it is another one; "lost" where
-- only reset helps.
local found = redis.call('HMGET', KEYS[1], 'settled', 'begun', 'done', 'lost')
if not found[1] or found[2] ~= found[3] or found[4] then
  return 'lost'
end
if found[1] ~= ARGV[1] then
  return found[1]
end
redis.call('HINCRBY', KEYS[1], 'begun', 1)
for i = 2, #KEYS do
  local kept_s, amounts = ARGV[2 * i - 2], cmsgpack.unpack(ARGV[2 * i - 1])
  for j = 1, #amounts, 2 do
    redis.call('HSETNX', KEYS[i], amounts[j], amounts[j + 1])
  end
  if kept_s ~= '0' and redis.call('TTL', KEYS[i]) < 0 then
    redis.call('EXPIRE', KEYS[i], kept_s)
  end
end
redis.call('HINCRBY', KEYS[1], 'done', 1)
return false
