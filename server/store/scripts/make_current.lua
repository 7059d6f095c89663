-- Makes a generation current if all of it is there, forgets old ones and tells the readers.
-- All or nothing.
--
-- KEYS: current, generations, the generation's own keys, then those of each old generation
-- ARGV: the channel, how many generations are kept, the generation, how many keys it has,
--       then for each old generation that may go: its number, how many keys it has
-- Returns 1, or 0 with nothing changed if a key of the generation is missing.
local current, generations = KEYS[1], KEYS[2]
local channel, kept, generation, key_count = ARGV[1], tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local first = 3

for i = first, first + key_count - 1 do
  if redis.call('EXISTS', KEYS[i]) == 0 then
    return 0
  end
end
for i = first, first + key_count - 1 do
  redis.call('PERSIST', KEYS[i])
end
redis.call('HSET', generations, generation, key_count)
redis.call('SET', current, generation)

-- The caller listed what looked old to it. Whether it is, is decided here: nobody steps in between.
local known = redis.call('HKEYS', generations)
first = first + key_count
for i = 5, #ARGV, 2 do
  local old, old_key_count = ARGV[i], tonumber(ARGV[i + 1])
  local newer = 0
  for _, other in ipairs(known) do
    if tonumber(other) > tonumber(old) then
      newer = newer + 1
    end
  end
  if old ~= generation and newer >= kept then
    for j = first, first + old_key_count - 1 do
      redis.call('DEL', KEYS[j])
    end
    redis.call('HDEL', generations, old)
  end
  first = first + old_key_count
end

redis.call('PUBLISH', channel, generation)
return 1
