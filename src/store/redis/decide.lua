-- Decides many queries in one call, in order, each all or nothing, as memory's store does.
--
-- The text of each algorithm (src/algorithm/*.lua) stands before this one as a function of its
-- name. Runs on Redis 6.2 and newer and on Valkey. Replicated by its effects, so it may read the
-- clock.
--
-- KEYS: the counters, each once.
-- ARGV[1]: packed, integers big-endian.
--   now      6 bytes  milliseconds since the epoch by which to decide; 0: this server's clock
--   jitter   4 bytes  thousandths of its time to live by which every key outlives its state
--   queries  2 bytes  how many follow; each:
--     enforce  1 byte   1; 0: nothing is denied, so what passes is charged even beside what is
--                       over; 2: nothing is judged, and acts are of those that have a time
--     checks   2 bytes  how many follow; each:
--       key      2 bytes  position in KEYS
--       kind     1 byte   1 fixed_window, 2 sliding_window, 3 sliding_log, 4 token_bucket
--       act      1 byte   0 nothing, 1 charge if it passes and the query is not denied, 2 charge,
--                         3 refund; with a time 0 and 3, the refund being of then, and
--                         4 give back what was charged then, 5 charge what was let pass then
--       role     1 byte   0 plain, 1 shadow, 2 quota, 3 both
--       hits     5 bytes
--       most     6 bytes  signed: the highest count at which the hits pass; -1 if they never do;
--                         the time, where acts have one, in milliseconds since the epoch
--       window   5 bytes  milliseconds
--       limit    4 bytes
--       burst    4 bytes
--
-- Returns one string, packed alike.
--   now      6 bytes  by which it was decided
--   for each query
--     denied   1 byte
--     for each check
--       flags    1 byte   1 over, 2 waiting does not help, 4 the state is of an unknown version
--       counted  5 bytes  hits that are counted once the query is done
--       reset    7 bytes  milliseconds from now
--
-- Each key is read once and, if it changed, written once with its time to live. Where nothing is
-- counted any more the key is deleted. A state that this version cannot read is never charged,
-- given back or replaced: all but refunds are over until it expires.

local pack, parse = struct.pack, struct.unpack
local call, floor, max, min = redis.call, math.floor, math.max, math.min
local CHECK, VERDICT, ALONE = '>I2BBBI5i6I5I4I4', '>BI5I7', '>BBI5I7'
local IF_PASSED, ALWAYS, REFUND, GIVE_BACK, LATE = 1, 2, 3, 4, 5
local AFTERWARDS, FIXED_WINDOW = 2, 1
-- A server whose clock is so far behind, as after a failover, still finds a window that is over.
local GRACE = 1000
-- Some 30,000 years; servers write numbers above 1e17 in a way that they do not read.
local LONGEST = 1e15
-- Lua takes no more than some 8,000 arguments.
local READ_AT_ONCE = 4000

local body = ARGV[1]
local now, jitter, queries, at = parse('>I6I4I2', body)
if now == 0 then
  local time = call('TIME')
  now = time[1] * 1000 + floor(time[2] / 1000)
end

-- Milliseconds that a key lives whose state is as good as a new one at `expires`.
local function ttl(expires)
  if expires <= now then
    return GRACE
  end
  local wait = expires - now
  local time = min(floor(wait + wait * jitter / 1000) + GRACE, LONGEST)
  -- Redis 7.2.0 to 7.2.4 write eight zeros at the end of a number in a way that they do not read.
  return time % 1e8 == 0 and time + 1 or time
end

local makers = { fixed_window, sliding_window, sliding_log, token_bucket }
local algorithms = {}

-- What is no string, as a log, reads as nothing.
local raws = {}
for first = 1, #KEYS, READ_AT_ONCE do
  local last = min(first + READ_AT_ONCE - 1, #KEYS)
  local some = call('MGET', unpack(KEYS, first, last))
  for i = first, last do
    raws[i] = some[i - first + 1]
  end
end

local states = {}

-- A key's state as it is stored, or what stands for one that cannot be read.
local function open(key, kind, window)
  local algorithm = algorithms[kind]
  if not algorithm then
    algorithm = makers[kind](ttl)
    algorithms[kind] = algorithm
  end
  local name = KEYS[key]
  local state = algorithm.load(raws[key], window, now, name)
  if not state then
    local left = call('PTTL', name)
    if left == -1 then
      -- Not even ours, or it would expire.
      left = window
      call('PEXPIRE', name, string.format('%.0f', left))
    end
    state = { unreadable = true, ends = now + max(left, 1), window = window }
  end
  state.algorithm = algorithm
  states[key] = state
  return state
end

local function land(algorithm, state, act, hits, limit, burst)
  if act == REFUND then
    algorithm.refund(state, hits, limit, burst)
  else
    algorithm.charge(state, hits, limit, burst)
  end
end

-- When nothing is counted any more.
local function expiry(state)
  if state.expires then
    return state.expires
  end
  return state.algorithm.falls_to(state, 0)
end

-- The checks of the query at hand.
local keys, acts, costs, mosts, limits, bursts, overs, roles = {}, {}, {}, {}, {}, {}, {}, {}
local out, told = { pack('>I6', now) }, 1

local function tell(text)
  told = told + 1
  out[told] = text
end

-- A copy of a state, charged with what passed of this query's earlier checks of that key.
local function trial(state, key, before)
  local copy = state.algorithm.copy(state)
  for i = 1, before do
    local act = acts[i]
    if keys[i] == key and act > 0 and (act ~= IF_PASSED or not overs[i]) then
      land(state.algorithm, copy, act, costs[i], limits[i], bursts[i])
    end
  end
  return copy
end

-- Hits of other checks of the same key that are not charged because the query is denied, and that
-- the same query needs room for when it comes again: of those before it that passed. If it is a
-- plain check, which has to pass for the query to pass, also of other plain ones, be they over or
-- after it; after a peek nothing needs room.
local function beside(index, checks)
  local key, plain, sum = keys[index], roles[index] == 0, 0
  local last = acts[index] == 0 and index - 1 or checks
  for i = 1, last do
    if i ~= index and keys[i] == key and acts[i] == IF_PASSED
      and ((plain and roles[i] == 0) or (i < index and not overs[i])) then
      sum = sum + costs[i]
    end
  end
  return sum
end

-- Charges what lands of a check, and says what that leaves behind, as a verdict is packed. One that
-- is over waits until no more than `room` are counted.
local function settle(state, act, hits, most, room, limit, burst, over, denied)
  if state.unreadable then
    local never = over and most < 0
    local wait = never and state.window or state.ends - now
    return (over and 1 or 0) + 4 + (most < 0 and 2 or 0), 0, wait
  end
  local algorithm = state.algorithm
  if act == REFUND then
    if algorithm.used(state, limit, burst) > 0 then
      algorithm.refund(state, hits, limit, burst)
      state.dirty = true
    end
  elseif act == ALWAYS or (act == IF_PASSED and not over and not denied) then
    algorithm.charge(state, hits, limit, burst)
    state.dirty = true
  elseif algorithm.outlast and algorithm.outlast(state, limit, burst) then
    state.dirty = true
  end
  local flags, reset = 0
  if over and room >= 0 then
    -- Later than now even if there is room: a bucket that is asked twice at two rates was judged as
    -- refilled at the other one.
    flags, reset = 1, max(algorithm.falls_to(state, room, limit, burst), now + 1)
  elseif over then
    flags, reset = 3, algorithm.window_passes_at(state)
  else
    flags, reset = 0, algorithm.resets_at(state, limit, burst)
  end
  local wait = reset > now and reset - now or 0
  return flags, algorithm.used(state, limit, burst), wait
end

-- A key whose hits have all been given back is new to the next query.
local function renew(key)
  local state = states[key]
  if state and state.dirty and expiry(state) <= now then
    call('UNLINK', KEYS[key])
    raws[key], states[key] = false, nil
  end
end

-- What lands or leaves afterwards does so check by check, whatever the counts are. In a fixed
-- window that is over there is nothing to be done.
local function afterwards(checks)
  tell('\0')
  for _ = 1, checks do
    local key, kind, act, role, hits, time, window, limit, burst
    key, kind, act, role, hits, time, window, limit, burst, at = parse(CHECK, body, at)
    local state = states[key] or open(key, kind, window)
    if state.unreadable then
      tell(pack(VERDICT, 4, 0, state.ends - now))
    else
      local algorithm = state.algorithm
      local counted = algorithm.used(state, limit, burst)
      local lands = act > 0 and (kind ~= FIXED_WINDOW or floor(time / window) == state.id)
      if lands and (act == LATE or counted > 0) then
        if act == LATE then
          algorithm.charge(state, hits, limit, burst)
        else
          algorithm.refund(state, hits, limit, burst, act == GIVE_BACK and time or nil)
        end
        state.dirty = true
        if expiry(state) <= now then
          call('UNLINK', KEYS[key])
          raws[key] = false
          state = open(key, kind, window)
        end
        counted = algorithm.used(state, limit, burst)
      end
      local reset = algorithm.resets_at(state, limit, burst)
      tell(pack(VERDICT, 0, counted, max(reset - now, 0)))
    end
  end
end

-- Most queries have one check, and that needs none of what is between the checks of one.
local function alone(enforce)
  local key, kind, act, role, hits, most, window, limit, burst
  key, kind, act, role, hits, most, window, limit, burst, at = parse(CHECK, body, at)
  local state = states[key] or open(key, kind, window)
  local over
  if state.unreadable then
    over = act ~= REFUND
  else
    over = state.algorithm.used(state, limit, burst) > most
  end
  local denied = over and enforce == 1 and role % 2 == 0
  local first = denied and 1 or 0
  tell(pack(ALONE, first, settle(state, act, hits, most, most, limit, burst, over, denied)))
  if act == REFUND then
    renew(key)
  end
end

local function together(query, enforce, checks)
  local denied, quotas, exhausted, twice, refunds = false, 0, 0, false, false

  -- Judge, each check on top of those before it. Nothing is written.
  for i = 1, checks do
    local key, kind, act, role, hits, most, window, limit, burst
    key, kind, act, role, hits, most, window, limit, burst, at = parse(CHECK, body, at)
    local state = states[key] or open(key, kind, window)
    local over
    if state.unreadable then
      over = act ~= REFUND
    else
      local judged = state
      if state.query ~= query then
        state.query, state.trial = query, nil
      else
        twice = true
        judged = state.trial or trial(state, key, i - 1)
        state.trial = judged
      end
      over = state.algorithm.used(judged, limit, burst) > most
      if judged ~= state and act > 0 and (act ~= IF_PASSED or not over) then
        land(state.algorithm, judged, act, hits, limit, burst)
      end
    end
    keys[i], acts[i], costs[i], mosts[i], roles[i] = key, act, hits, most, role
    limits[i], bursts[i], overs[i] = limit, burst, over
    refunds = refunds or act == REFUND
    -- Fold: a plain check that is over denies, quota checks only all together.
    local exceeds = over and role % 2 == 0
    if role >= 2 then
      quotas = quotas + 1
      exhausted = exhausted + (exceeds and 1 or 0)
    elseif exceeds then
      denied = true
    end
  end
  denied = enforce == 1 and (denied or (quotas > 0 and quotas == exhausted))
  tell(denied and '\1' or '\0')

  -- Charge what lands, check by check, and tell what each one leaves behind.
  for i = 1, checks do
    local state, act, cost, most = states[keys[i]], acts[i], costs[i], mosts[i]
    local limit, burst, over = limits[i], bursts[i], overs[i]
    local room = most
    if over and denied and twice then
      room = most - beside(i, checks)
    end
    tell(pack(VERDICT, settle(state, act, cost, most, room, limit, burst, over, denied)))
  end
  for i = 1, refunds and checks or 0 do
    renew(keys[i])
  end
end

for query = 1, queries do
  local enforce, checks
  enforce, checks, at = parse('>BI2', body, at)
  if enforce == AFTERWARDS then
    afterwards(checks)
  elseif checks == 1 then
    alone(enforce)
  else
    together(query, enforce, checks)
  end
end

for key = 1, #KEYS do
  local state = states[key]
  if state and state.dirty then
    local algorithm = state.algorithm
    if algorithm.write then
      algorithm.write(state)
    else
      call('SET', KEYS[key], algorithm.save(state), 'PX', ttl(expiry(state)))
    end
  end
end

return table.concat(out)
