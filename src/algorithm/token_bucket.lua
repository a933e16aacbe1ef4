-- The sibling of token_bucket.rs: the same state, the same numbers.
--
-- Returns functions on one key's state, most of which also take the quota's limit and burst.
-- `load` reads it (raw: the key's string, or false) and returns nil if the string is not one it
-- knows. Stored: version, tokens, rest, when the two were true, from when on the bucket counts as
-- new, the fullest it has lately been; 29 bytes. When it is new is stored since a limit may change:
-- what expires is what was promised when it was charged, not what a later quota makes of it.

local floor, max, min = math.floor, math.max, math.min
local SATURATED = 4294967296
local LONGEST_WAIT = 281474976710656
local HALF = 65536
local SPAN = 256
local VERSION, FORMAT, SIZE = 1, '>Bi5I5I6I7i5', 29

-- Quotient and rest of (a * b + c) / d for a < 2^34, b <= 2^35, c < 2^37, 0 < d <= 2^35. No
-- intermediate value passes 2^53: `a` is split at 16 bits. A quotient above 2^53 is not exact, but
-- still above it. (Below 2^53 a floor of a double division is exact, and so is %: the distance to
-- the next integer is at least 1/d, which is more than the rounding error.)
local function mul_add_div(a, b, c, d)
  local high = floor(a / HALF) * b
  local low = (high % d) * HALF + (a % HALF) * b + c
  return floor(high / d) * HALF + floor(low / d), low % d
end

local function load(raw, window, now)
  -- tokens = nil: a new key's bucket, full by whatever quota asks.
  local state = {
    tokens = nil, rest = 0, last = now, expires = 0, peak = -SATURATED, window = window, now = now,
  }
  if raw then
    if #raw ~= SIZE or string.byte(raw) ~= VERSION then
      return nil
    end
    local _, tokens, rest, last, expires, peak = struct.unpack(FORMAT, raw)
    if expires > now then
      state.tokens, state.rest, state.last, state.expires = tokens, rest, last, expires
      state.peak = peak
    end
  end
  return state
end

local function save(state)
  local tokens, rest, last = state.tokens, state.rest, state.last
  return struct.pack(FORMAT, VERSION, tokens, rest, last, state.expires, state.peak)
end

local function copy(state)
  return {
    tokens = state.tokens, rest = state.rest, last = state.last, expires = state.expires,
    peak = state.peak, window = state.window, now = state.now,
  }
end

-- Tokens, rest and time of the bucket at `now`: if the clock stepped back, as it was left.
local function at(state, limit, burst)
  local tokens = state.tokens
  local last = max(state.now, state.last)
  if not tokens then
    return burst, 0, last
  end
  local missing = max(burst - tokens, 0)
  local elapsed = last - state.last
  local rest, gain = state.rest, 0
  if elapsed > 0 and limit > 0 then
    local window = state.window
    -- Whole windows first, no more than fill the bucket, so that the product stays small.
    local whole = min(floor(elapsed / window), floor(missing / limit) + 1)
    local earned
    earned, rest = mul_add_div(limit, elapsed % window, rest, window)
    gain = whole * limit + earned
  end
  if gain >= missing then
    return burst, 0, last
  end
  return tokens + gain, rest, last
end

local function used(state, limit, burst)
  local tokens = at(state, limit, burst)
  return burst - tokens
end

local function falls_to(state, target, limit, burst)
  local tokens, rest, last = at(state, limit, burst)
  local missing = burst - tokens - target
  if missing <= 0 then
    return state.now
  end
  if limit == 0 then
    return last + LONGEST_WAIT
  end
  -- Rounded up: (missing * window - rest) / limit.
  local wait = mul_add_div(missing - 1, state.window, state.window - rest + limit - 1, limit)
  return last + min(wait, LONGEST_WAIT)
end

-- The bucket is about to be changed: as it is at `now`, and the fullest it has been since the span
-- of that time began.
local function touch(state, limit, burst)
  local tokens, rest, last = at(state, limit, burst)
  local level = rest > 0 and tokens + 1 or tokens
  if level > state.peak or floor(last / SPAN) ~= floor(state.last / SPAN) then
    state.peak = level
  end
  return tokens, rest, last
end

local function charge(state, hits, limit, burst)
  local tokens, rest, last = touch(state, limit, burst)
  state.tokens, state.rest, state.last = max(tokens - hits, -SATURATED), rest, last
  state.expires = falls_to(state, 0, limit, burst)
end

-- At most so much of hits that were charged at `charged` would have spilled since: tokens, and
-- units of 1/window. token_bucket.rs says why that is not to come back.
local function spilled(state, hits, limit, burst, charged)
  if charged > state.last then
    -- Not charged to this state, which is younger.
    return hits, 0
  end
  local room = 0
  if floor(charged / SPAN) == floor(state.last / SPAN) then
    room = max(burst - state.peak, 0)
  end
  local elapsed, whole, part = max(state.now, state.last) - charged, hits, 0
  if elapsed <= state.window then
    whole, part = mul_add_div(limit, elapsed, 0, state.window)
  end
  if whole >= hits - room then
    return max(hits - room, 0), 0
  end
  return whole, part
end

-- With `charged`: gives back hits that were charged then.
local function refund(state, hits, limit, burst, charged)
  if used(state, limit, burst) == 0 then
    return
  end
  local whole, part = 0, 0
  if charged then
    whole, part = spilled(state, hits, limit, burst, charged)
  end
  local tokens, rest, last = touch(state, limit, burst)
  if hits > whole then
    tokens, rest = tokens + hits - whole, rest - part
    if rest < 0 then
      tokens, rest = tokens - 1, rest + state.window
    end
    if tokens >= burst then
      tokens, rest = burst, 0
    end
  end
  state.tokens, state.rest, state.last = tokens, rest, last
  state.expires = falls_to(state, 0, limit, burst)
end

-- Lets a bucket that was not charged stay until it is full by this quota too: its refill may have
-- been slowed down since. Returns whether that is later than before.
local function outlast(state, limit, burst)
  if not state.tokens or limit == 0 then
    return false
  end
  local expires = falls_to(state, 0, limit, burst)
  if expires > state.expires then
    state.expires = expires
    return true
  end
  return false
end

local function resets_at(state, limit, burst)
  return falls_to(state, 0, limit, burst)
end

-- When a whole window has passed: the reset reported for hits that can never pass.
local function window_passes_at(state)
  return state.now + state.window
end

return {
  load = load, save = save, copy = copy, used = used, charge = charge, refund = refund,
  falls_to = falls_to, resets_at = resets_at, window_passes_at = window_passes_at,
  outlast = outlast,
}
