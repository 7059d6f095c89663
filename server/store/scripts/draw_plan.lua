-- Draws a plan's number: higher than any before, and than any that were drawn before Redis lost
-- them, since it is at least the time in seconds, and far fewer are drawn than one a second.
--
-- KEYS: the last number drawn
local number = tonumber(redis.call('GET', KEYS[1]) or '0') + 1
local now_s = tonumber(redis.call('TIME')[1])
if number < now_s then
  number = now_s
end
redis.call('SET', KEYS[1], number)
return number
