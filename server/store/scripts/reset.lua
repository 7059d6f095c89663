-- Starts again where the state is gone, torn or marked as lost; all accounts are to be opened anew.
--
-- What was granted in windows that the ledger has not closed is unknown: they become ghosts.
--
-- KEYS: state, servers, ghosts, open, then all bases and granted that may be there
-- ARGV: the last window closed, the last to become a ghost, the moment in microseconds (empty:
--       Redis's own), a window's length in microseconds
-- Returns nil, or with nothing changed: "kept" if the state is not lost, "late" if the last ghost
-- is not the window after this one or later.
local state = KEYS[1]
local settled, final, window_us = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[4])
local now_us = tonumber(ARGV[3])
if not now_us then
  local time = redis.call('TIME')
  now_us = time[1] * 1000000 + time[2]
end
local found = redis.call('HMGET', state, 'run_id', 'begun', 'done', 'lost')
if found[1] and found[2] == found[3] and not found[4] then
  return 'kept'
end
if final < math.floor(now_us / window_us) + 1 then
  return 'late'
end
for i = 1, #KEYS do
  redis.call('DEL', KEYS[i])
end
redis.call('HINCRBY', state, 'begun', 1)
for ghost = settled + 1, final do
  redis.call('SADD', KEYS[3], ghost)
end
-- See grant.lua.
local own = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
  .. string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
redis.call(
  'HSET', state, 'run_id', own, 'seq', now_us, 'settled', settled, 'window', settled)
redis.call('HINCRBY', state, 'done', 1)
return false
