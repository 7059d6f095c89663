-- Gives the lead up, if it is ours to give.
--
-- KEYS: the lock
-- ARGV: our name
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
return false
