-- Turns what a window granted into what was billed of it. All or nothing.
--
-- KEYS: state, servers, ghosts, open, granted of the window, the bases
-- ARGV: the window, then for each base as msgpack: [name, amount, name, amount ...]
-- Returns nil, or the last window settled, with nothing changed, if it is not the one before; "lost"
-- where only reset helps.
local state, servers, ghosts, open, granted = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local window = tonumber(ARGV[1])
local found = redis.call('HMGET', state, 'settled', 'begun', 'done', 'lost')
if not found[1] or found[2] ~= found[3] or found[4] then
  return 'lost'
end
if tonumber(found[1]) ~= window - 1 then
  return found[1]
end
redis.call('HINCRBY', state, 'begun', 1)
for i = 2, #ARGV do
  local base, amounts = KEYS[4 + i], cmsgpack.unpack(ARGV[i])
  for j = 1, #amounts, 2 do
    -- An account that nobody has opened gets this window when it is opened.
    if redis.call('HEXISTS', base, amounts[j]) == 1 then
      redis.call('HINCRBY', base, amounts[j], amounts[j + 1])
    end
  end
end
local all = redis.call('HGETALL', granted)
for i = 1, #all, 2 do
  -- Not -all[i + 1]: of "0", all of which was returned, Lua makes "-0", which Redis refuses.
  if redis.call('HINCRBY', open, all[i], 0 - all[i + 1]) <= 0 then
    redis.call('HDEL', open, all[i])
  end
end
redis.call('DEL', granted)
redis.call('SREM', ghosts, window)
-- A server that has not called since has no lease to return.
local callers = redis.call('HGETALL', servers)
for i = 1, #callers, 2 do
  if tonumber(string.match(callers[i + 1], ':(%d+)$')) <= window then
    redis.call('HDEL', servers, callers[i])
  end
end
redis.call('HSET', state, 'settled', window)
redis.call('HINCRBY', state, 'done', 1)
return false
