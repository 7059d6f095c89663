-- Begins where nothing was ever granted, so that nobody need wait for what might have been.
--
-- KEYS: state
-- ARGV: the last window closed
-- Returns 1, or 0 with nothing changed if there is a state.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
-- See grant.lua.
local own = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
  .. string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
redis.call('HINCRBY', KEYS[1], 'begun', 1)
redis.call(
  'HSET', KEYS[1], 'run_id', own, 'seq', now_us, 'settled', ARGV[1], 'window', ARGV[1])
redis.call('HINCRBY', KEYS[1], 'done', 1)
return 1
