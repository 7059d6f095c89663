-- Takes back what a server did not use, and grants it what it wants. All or nothing.
--
-- The fence: what Redis lost (a restart, a failover to a stale replica) may have held grants.
-- Another run id or replication id than the state's says so: the windows that may be lost become
-- ghosts. Each is taken to have granted as much as one window may, and nothing is granted in it
-- any more. For the same reason a call counts itself first and last (see apply_counts).
--
-- KEYS: state, servers, ghosts, open, granted of the call's window, then the bases and the granted
--       of other windows that the call points at by their place among all KEYS
-- ARGV: the call (`Call` in budgets.py) as msgpack, the moment in microseconds (empty: Redis's
--       own), a window's length in microseconds, how many windows may be unsettled, and be ghosts
-- Returns a status, the moment, seq, then what each want is granted: -1 where an account is unknown
local state, servers, ghosts, open, granted = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local server, sequence, seen, window, accounts, wants, returns = unpack(cmsgpack.unpack(ARGV[1]))
local window_us, unsettled_max, ghosts_max = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local BATCH = 1000 -- of what one command takes: Lua's stack ends at 8000

local now_us = tonumber(ARGV[2])
if not now_us then
  local time = redis.call('TIME')
  now_us = time[1] * 1000000 + time[2]
end
local now = math.floor(now_us / window_us)

local found = redis.call(
  'HMGET', state, 'run_id', 'seq', 'settled', 'window', 'begun', 'done', 'lost')
local run_id, seq, settled = found[1], tonumber(found[2]), tonumber(found[3])
local last = tonumber(found[4])
if not run_id or found[5] ~= found[6] or found[7] then
  return {'lost', now_us, seq or 0}
end

local begun = 0
local function begin()
  redis.call('HINCRBY', state, 'begun', 1)
  begun = 1
end
local function finish(status)
  if begun == 1 then
    redis.call('HINCRBY', state, 'done', 1)
  end
  return {status, now_us, seq}
end
local function lose()
  redis.call('HSET', state, 'lost', 1) -- only reset helps, and control must hear of it
  return finish('lost')
end

-- A process that was a replica meanwhile has another replication id: it may have lost its tail.
local own = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
  .. string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
if run_id ~= own then
  local first = math.max(last, settled + 1)
  -- The lost ones had another clock: what the caller believes came from it.
  local final = math.max(last, now, window) + 1
  if final - first >= ghosts_max then
    return lose()
  end
  begin()
  for ghost = first, final do
    redis.call('SADD', ghosts, ghost)
  end
  seq = math.max(seq, now_us)
  redis.call('HSET', state, 'run_id', own, 'seq', seq)
end
if seq < seen or now - settled > unsettled_max then
  return lose()
end
if window ~= now then
  return finish('window')
end
if now < last or now <= settled then
  return finish('late') -- its clock went back: windows before may be lost ones, or are settled
end
local known = redis.call('HGET', servers, server)
if known and sequence <= tonumber(string.match(known, '^%d+')) then
  return finish('repeat')
end

if begun == 0 then
  begin()
end
seq = seq + 1
redis.call('HSET', state, 'seq', seq, 'window', now)
redis.call('HSET', servers, server, string.format('%d:%d', sequence, now))

-- Reads fields first .. last of a hash into `values` at the same places; nil for none.
local function read(key, fields, first, last_field, values)
  for from = first, last_field, BATCH do
    local part = redis.call(
      'HMGET', key, unpack(fields, from, math.min(from + BATCH - 1, last_field)))
    for i = 1, #part do
      values[from + i - 1] = tonumber(part[i])
    end
  end
  return values
end
local function append(list, one, other)
  list[#list + 1] = one
  list[#list + 1] = other
end
local function write(key, pairs_of)
  for first = 1, #pairs_of, BATCH do
    redis.call('HSET', key, unpack(pairs_of, first, math.min(first + BATCH - 1, #pairs_of)))
  end
end

-- Returns: [place of granted, its window, [field, field ...], [amount, amount ...]]. Never more
-- than is known as granted: some of it may be lost, and stands under the ghosts then.
for _, entry in ipairs(returns) do
  local key, of, fields, amounts = KEYS[entry[1]], entry[2], entry[3], entry[4]
  if of > settled then
    local grants, opens = read(key, fields, 1, #fields, {}), read(open, fields, 1, #fields, {})
    local granted_pairs, open_pairs = {}, {}
    for i, field in ipairs(fields) do
      local amount = math.min(amounts[i], grants[i] or 0)
      if amount > 0 then
        append(granted_pairs, field, grants[i] - amount)
        append(open_pairs, field, math.max(opens[i] - amount, 0))
      end
    end
    write(key, granted_pairs)
    write(open, open_pairs)
  end
end

if redis.call('SISMEMBER', ghosts, now) == 1 then
  return finish('fenced')
end

-- Accounts, in lists side by side, which Lua handles faster than lists of lists: their fields in
-- open and granted, names, limits and window_max; and of each period its base's place, first, last.
local fields, names, limits, window_maxes, periods = unpack(accounts)
local bases = {}
for _, one in ipairs(periods) do
  read(KEYS[one[1]], names, one[2], one[3], bases)
end
local opens, grants = read(open, fields, 1, #fields, {}), read(granted, fields, 1, #fields, {})
local ghost_count = redis.call('SCARD', ghosts)
local free, room, added = {}, {}, {}
for i = 1, #fields do
  local window_max = window_maxes[i]
  free[i] = limits[i] - (bases[i] or 0) - (opens[i] or 0) - ghost_count * window_max
  room[i] = window_max - (grants[i] or 0)
  added[i] = 0
end

-- What `part` of `want` impressions cost when all cost `cost`, rounded up; exact, because no
-- product here reaches 2^53 (want <= 10^6).
local function cost_of(part, want, cost)
  local each = math.floor(cost / want)
  return each * part + math.ceil((cost - each * want) * part / want)
end
-- The most impressions, up to `want`, that cost no more than `most`.
local function fitting(most, want, cost)
  if cost <= most then
    return want
  end
  local part = math.max(math.min(math.floor(most / cost * want) + 1, want), 0)
  while part > 0 and cost_of(part, want, cost) > most do
    part = part - 1
  end
  return part
end

-- Wants, in one list: impressions, how many accounts, then of each its place and the cost.
local parts, i = {}, 1
while i < #wants do
  local want, first, last_of = wants[i], i + 2, i + 2 * wants[i + 1]
  local part = want
  for j = first, last_of, 2 do
    local at, cost = wants[j], wants[j + 1]
    if not bases[at] then
      part = -1
      break
    end
    local share = math.max(cost_of(1, want, cost), math.floor(free[at] / 4))
    part = math.min(part, fitting(math.min(free[at], room[at], share), want, cost))
  end
  if part > 0 then
    for j = first, last_of, 2 do
      local at, cost = wants[j], cost_of(part, want, wants[j + 1])
      free[at], room[at], added[at] = free[at] - cost, room[at] - cost, added[at] + cost
    end
  end
  parts[#parts + 1] = part
  i = last_of + 2
end
local open_pairs, granted_pairs = {}, {}
for i, amount in ipairs(added) do
  if amount > 0 then
    append(open_pairs, fields[i], (opens[i] or 0) + amount)
    append(granted_pairs, fields[i], (grants[i] or 0) + amount)
  end
end
if #open_pairs > 0 then
  write(open, open_pairs)
  write(granted, granted_pairs)
  redis.call('EXPIRE', granted, math.ceil(window_us / 1000000) * (unsettled_max + ghosts_max))
end
local answer = finish('granted')
for i, part in ipairs(parts) do
  answer[3 + i] = part
end
return answer
