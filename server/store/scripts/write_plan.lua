-- Writes a plan unless a newer one is there: a leader that was stopped in the middle and goes on
-- later has drawn its number before its successor has.
--
-- KEYS: the plan, its number
-- ARGV: the number, the bytes
-- Returns 1, or 0 with nothing changed.
if tonumber(redis.call('GET', KEYS[2]) or '0') >= tonumber(ARGV[1]) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('SET', KEYS[2], ARGV[1])
return 1
