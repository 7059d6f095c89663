-- Counts what a user is shown: adds this moment to the lists of the line items' scopes, of a strict
-- one only if none of its caps is used up. All caps of a line item together, or nothing of it.
--
-- KEYS: the user's hash: scope (`l42`, `c7`, `a3`) -> its last moments, UTC seconds, u32
--       big-endian, the oldest first
-- ARGV: now, how many fields a user may have at most, then for each line item: 1 if it is to be
--       checked and else 0, how many scopes, and for each scope: its field, how many moments are
--       kept, for how many seconds, how many caps, and for each cap: impressions, seconds
-- Returns "1" for each line item that was counted and "0" for each that was not, in one string; and
-- then, if any was to be checked, the hash as it is now in HGETALL's order.
local user, now, fields_max = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])

-- Our clocks differ a little, and lists must rise: the newest moment is at least the one before it.
local function newest(times)
  return #times > 0 and struct.unpack('>I4', times, #times - 3) or 0
end

-- A cap of n is used up if the n-th moment from the end is younger than its window.
local function used_up(times, impressions, window_s)
  local place = #times - 4 * impressions + 1
  return place > 0 and struct.unpack('>I4', times, place) > now - window_s
end

local function add(field, keep, keep_s)
  local times = redis.call('HGET', user, field) or ''
  times = times .. struct.pack('>I4', math.max(now, newest(times)))
  local first = math.max(1, #times - 4 * keep + 1)
  while struct.unpack('>I4', times, first) <= now - keep_s do
    first = first + 4
  end
  redis.call('HSET', user, field, string.sub(times, first))
end

local verdicts, lasts_s, at, any_checked = {}, 0, 3, false
while at <= #ARGV do
  local checked, scope_count = ARGV[at] == '1', tonumber(ARGV[at + 1])
  local allowed, scopes = true, {}
  any_checked = any_checked or checked
  at = at + 2
  for i = 1, scope_count do
    local field, cap_count = ARGV[at], tonumber(ARGV[at + 3])
    scopes[i] = {field, tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])}
    at = at + 4
    for _ = 1, cap_count do
      if checked and allowed then
        local times = redis.call('HGET', user, field) or ''
        allowed = not used_up(times, tonumber(ARGV[at]), tonumber(ARGV[at + 1]))
      end
      at = at + 2
    end
  end
  if allowed then
    for _, scope in ipairs(scopes) do
      add(scope[1], scope[2], scope[3])
      lasts_s = math.max(lasts_s, scope[3])
    end
  end
  verdicts[#verdicts + 1] = allowed and '1' or '0'
end

local all = {}
if any_checked or redis.call('HLEN', user) > fields_max then
  all = redis.call('HGETALL', user)
end
if lasts_s > 0 then
  -- Whoever meets more scopes than anybody keeps forgets the ones that were counted longest ago.
  while #all > 2 * fields_max do
    local oldest = 1
    for i = 3, #all, 2 do
      if newest(all[i + 1]) < newest(all[oldest + 1]) then
        oldest = i
      end
    end
    redis.call('HDEL', user, all[oldest])
    table.remove(all, oldest)
    table.remove(all, oldest)
  end
  if redis.call('TTL', user) < lasts_s then
    redis.call('EXPIRE', user, lasts_s)
  end
end
if not any_checked then
  return {table.concat(verdicts)}
end
table.insert(all, 1, table.concat(verdicts))
return all
