-- The sibling of sliding_log.rs: the same members, the same numbers.
--
-- Takes `ttl`, which turns a time into milliseconds to live. Returns functions on one key's log;
-- `load` returns nil if the key holds something that it does not know.
--
-- Stored: a sorted set, score = the millisecond of a charge. A member is 14 bytes: version,
-- millisecond, and the sum of everything charged up to and with it, modulo 2^52. So what is
-- counted is the difference of two members, found in O(log n), however many there are between.
-- * There is one member per millisecond.
-- * The newest member that no longer counts is kept: its sum is where the others begin.
-- * When everything charged at the newest time is given back, that member stays, with the sum of
--   the one before it: a clock that steps back then still finds the newest time.
--
-- Nothing is written before `write`, but where a refund reaches beyond the newest member. No call
-- takes longer than O(log n), but for giving back what was charged earlier than the newest: the
-- sums of all that came since, a bounded number of members, are written anew.

local ttl = ...
local floor, max, min = math.floor, math.max, math.min
local call = redis.call
local SATURATED = 4294967296
local SUMS = 4503599627370496
local VERSION, FORMAT, SIZE = 1, '>BI6I7', 14
-- As memory's logs: room for as many members as the limit, but for so many in any case.
local FEW, MANY = 64, 100000
-- The most members that a charge removes. (A log that is not needed any more is unlinked: freed beside the server's work.)
local TRIMMED = 1000
-- So many later members are rewritten when an earlier one gives back, and no more.
local LATER = 2000

local function text(number)
  return string.format('%.0f', number)
end

local function member(at, total)
  return struct.pack(FORMAT, VERSION, at, total)
end

-- Time and sum of a member; nil if it is none of ours.
local function parse(raw)
  if #raw ~= SIZE or string.byte(raw) ~= VERSION then
    return nil
  end
  local _, at, total = struct.unpack(FORMAT, raw)
  return at, total
end

-- state.newest, state.total: the last member, `stored` being its name in Redis if it is there.
-- state.previous, state.before: the one before it. state.gone: the sum of all that does not count.
local function load(_, window, now, key)
  local state = {
    key = key, window = window, now = now, at = now, cut = now - window,
    newest = 0, total = 0, before = 0, gone = 0, old = {},
  }
  local pair = redis.pcall('ZRANGE', key, -2, -1)
  if pair.err then
    return nil
  end
  local stored = pair[#pair]
  if not stored then
    return state
  end
  local newest, total = parse(stored)
  if not newest then
    return nil
  end
  state.at = max(now, newest)
  state.cut = state.at - window
  if newest < state.cut then
    state.stale = true
    return state
  end
  state.newest, state.total, state.stored = newest, total, stored
  if pair[2] then
    state.previous, state.before = parse(pair[1])
    if not state.previous then
      return nil
    end
    local base = pair[1]
    if state.previous >= state.cut then
      base = call('ZREVRANGEBYSCORE', key, '(' .. text(state.cut), '-inf', 'LIMIT', 0, 1)[1]
    end
    if base then
      state.base, state.gone = parse(base)
      if not state.base then
        return nil
      end
    end
  end
  return state
end

-- Writes what has changed, with the time to live. The new before the old goes: should Redis be out
-- of memory, nothing is lost.
local function write(state)
  local key = state.key
  if state.stale then
    call('UNLINK', key)
    state.stale = false
  end
  if state.changed then
    state.stored = member(state.newest, state.total)
    call('ZADD', key, text(state.newest), state.stored)
    state.changed = false
  end
  for _, name in ipairs(state.old) do
    -- What was charged and given back in one call is the same member again.
    if name ~= state.stored then
      call('ZREM', key, name)
    end
  end
  state.old = {}
  if state.charged and state.base then
    -- Nothing reads what is before the base, so the rest may stay until the next charges.
    local old = call('ZCOUNT', key, '-inf', '(' .. text(state.base))
    if old > 0 then
      call('ZREMRANGEBYRANK', key, 0, min(old, TRIMMED) - 1)
    end
  end
  local last = state.newest
  if state.total == state.before and state.previous then
    last = state.previous
  end
  call('PEXPIRE', key, text(ttl(last + state.window + 1)))
end

-- To try charges on at `now`, and at no other time: only a count.
local function copy(state)
  return { count = min((state.total - state.gone) % SUMS, SATURATED) }
end

local function used(state)
  if state.count then
    return state.count
  end
  return min((state.total - state.gone) % SUMS, SATURATED)
end

-- The last member is to be written anew.
local function change(state)
  if state.stored then
    table.insert(state.old, state.stored)
    state.stored = nil
  end
  state.changed = true
end

-- The oldest member that counts becomes part of the next: its hits count for longer, never less.
local function make_room(state, limit)
  local key, cut = state.key, text(state.cut)
  local count = call('ZCOUNT', key, cut, '+inf')
  if state.total == state.before then
    count = count - 1
  end
  if count < max(FEW, min(limit, MANY)) then
    return
  end
  local pair = call('ZRANGEBYSCORE', key, cut, '+inf', 'LIMIT', 0, 2)
  table.insert(state.old, pair[1])
  local _, total = parse(pair[2])
  if total and (total - state.gone) % SUMS > SATURATED then
    -- Each member saturates alone, so a huge charge hides none that outlasts it.
    local at = max(state.cut - 1, 0)
    if state.base then
      table.insert(state.old, member(state.base, state.gone))
    end
    state.base, state.gone = at, (total - SATURATED) % SUMS
    call('ZADD', key, text(at), member(at, state.gone))
  end
end

local function charge(state, hits, limit)
  if state.count then
    state.count = min(state.count + hits, SATURATED)
    return
  end
  if state.newest == state.at then
    change(state)
    local own = min((state.total - state.before) % SUMS + hits, SATURATED)
    state.total = (state.before + own) % SUMS
  else
    if state.newest > 0 then
      if state.changed then
        -- By a refund just before.
        write(state)
      end
      make_room(state, limit)
      if state.total == state.before then
        change(state)
      else
        state.previous, state.before = state.newest, state.total
      end
    end
    state.stored, state.changed = nil, true
    state.newest, state.total = state.at, (state.total + min(hits, SATURATED)) % SUMS
  end
  state.charged = true
end

-- The first member that counts after which no more than `target` does: rank, time and sum. Most
-- often it is one of the oldest.
local function find(state, target)
  local key = state.key
  local function at_rank(rank)
    local at, sum = parse(call('ZRANGE', key, rank, rank)[1])
    return at and (state.total - sum) % SUMS <= target, at, sum
  end
  local last = call('ZCARD', key) - 1
  local low = call('ZCOUNT', key, '-inf', '(' .. text(state.cut))
  local high = low
  local found, at, sum = at_rank(high)
  local step = 1
  while not found and high < last do
    low, high = high + 1, min(high + step, last)
    step = step * 2
    found, at, sum = at_rank(high)
  end
  while low < high do
    local middle = floor((low + high) / 2)
    local earlier, its_at, its_sum = at_rank(middle)
    if earlier then
      high, at, sum = middle, its_at, its_sum
    else
      low = middle + 1
    end
  end
  return high, at, sum
end

-- Reads the log anew after it was changed in Redis.
local function reload(state)
  local anew = load(nil, state.window, state.now, state.key)
  for _, field in ipairs({ 'newest', 'total', 'stored', 'previous', 'before', 'base', 'gone' }) do
    state[field] = anew[field]
  end
end

-- Takes back more than the newest member holds, in Redis, and reads the log anew.
local function refund_deep(state, left)
  write(state)
  local key, newest = state.key, state.newest
  local total = (state.total - left) % SUMS
  local rank, at, sum = find(state, left)
  call('ZREMRANGEBYRANK', key, rank + 1, -1)
  if sum ~= total then
    call('ZADD', key, text(at), member(at, total))
    call('ZREM', key, member(at, sum))
  end
  if at ~= newest then
    -- A later time than any member's is kept, with nothing of its own.
    call('ZADD', key, text(newest), member(newest, total))
  end
  reload(state)
end

-- The member of an earlier time gives hits back, and the sums of those after it follow, in Redis.
-- Where there are too many of those, or one that is not known, nothing is given back.
local function give_back(state, hits, charged)
  write(state)
  local key, from = state.key, text(charged)
  local old = call('ZRANGEBYSCORE', key, from, '+inf', 'LIMIT', 0, LATER + 2)
  local before = call('ZREVRANGEBYSCORE', key, '(' .. from, '-inf', 'LIMIT', 0, 1)[1]
  local at, sum = parse(old[1] or '')
  local earlier, base = 0, 0
  if before then
    earlier, base = parse(before)
  end
  if at ~= charged or not earlier or #old > LATER + 1 then
    return
  end
  local own = (sum - base) % SUMS
  local back = min(hits, own)
  if back == 0 or own >= SATURATED then
    return
  end
  local new = {}
  for i, name in ipairs(old) do
    local its_at, its_sum = parse(name)
    if not its_at then
      return
    end
    if i > 1 or back < own then
      new[#new + 1] = text(its_at)
      new[#new + 1] = member(its_at, (its_sum - back) % SUMS)
    end
  end
  call('ZADD', key, unpack(new))
  call('ZREM', key, unpack(old))
  reload(state)
end

-- With `charged`: gives back hits that were charged then, from the member of that time.
local function refund(state, hits, _, _, charged)
  if state.count then
    state.count = max(state.count - hits, 0)
    return
  end
  if charged then
    if charged < state.cut or charged > state.newest then
      return
    end
    if charged < state.newest then
      give_back(state, hits, charged)
      return
    end
    local own = (state.total - state.before) % SUMS
    if own >= SATURATED then
      return
    end
    hits = min(hits, own)
  end
  local left = min(hits, used(state))
  if left == 0 then
    return
  end
  if (state.total - state.before) % SUMS > left then
    change(state)
    state.total = (state.total - left) % SUMS
  else
    refund_deep(state, left)
  end
end

local function falls_to(state, target)
  if used(state) <= target then
    return state.now
  end
  local total, out = state.total, state.window + 1
  if target == 0 then
    if total == state.before then
      return state.previous + out
    end
    return state.newest + out
  end
  if state.changed then
    write(state)
  end
  local _, at = find(state, target)
  return (at or state.newest) + out
end

local function resets_at(state)
  return falls_to(state, 0)
end

-- When a whole window has passed: the reset reported for hits that can never pass.
local function window_passes_at(state)
  return state.now + state.window
end

return {
  load = load, write = write, copy = copy, used = used, charge = charge, refund = refund,
  falls_to = falls_to, resets_at = resets_at, window_passes_at = window_passes_at,
}
