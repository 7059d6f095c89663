-- Takes back what was counted for an ad that was then not shown.
--
-- KEYS: the user's hash
-- ARGV: the moment it was counted at, then the fields that it was counted in
-- Removes one such moment from each field; where it is there no more, nothing.
for i = 2, #ARGV do
  local times = redis.call('HGET', KEYS[1], ARGV[i]) or ''
  for place = #times - 3, 1, -4 do
    local moment = struct.unpack('>I4', times, place)
    -- A clock behind the others' was counted as of the moment before.
    if moment >= tonumber(ARGV[1]) then
      times = string.sub(times, 1, place - 1) .. string.sub(times, place + 4)
      if times == '' then
        redis.call('HDEL', KEYS[1], ARGV[i])
      else
        redis.call('HSET', KEYS[1], ARGV[i], times)
      end
      break
    end
  end
end
return 1
