-- The sibling of fixed_window.rs: the same state, the same numbers.
--
-- Returns functions on one key's state. `load` reads it as it is at `now` (raw: the key's string,
-- or false) and returns nil if the string is not one it knows. Stored: version, number of the
-- window, hits counted in it; 11 bytes.

local max = math.max
local pack, parse = struct.pack, struct.unpack
local SATURATED = 4294967296
local VERSION, FORMAT, SIZE = 1, '>BI5I5', 11

local function load(raw, window, now)
  local state = {
    id = (now - now % window) / window, count = 0, window = window, now = now,
    algorithm = false, query = 0, trial = false, dirty = false,
  }
  if raw then
    if #raw ~= SIZE then
      return nil
    end
    local version, id, count = parse(FORMAT, raw)
    if version ~= VERSION then
      return nil
    end
    -- If the clock stepped back, the window that was charged last.
    if id >= state.id then
      state.id, state.count = id, count
    end
  end
  return state
end

local function save(state)
  return pack(FORMAT, VERSION, state.id, state.count)
end

local function copy(state)
  return { id = state.id, count = state.count, window = state.window, now = state.now }
end

local function used(state)
  return state.count
end

local function charge(state, hits)
  local count = state.count + hits
  state.count = count < SATURATED and count or SATURATED
end

-- With `charged`: gives back hits that were charged then, which was in this window.
local function refund(state, hits, _, _, charged)
  if charged and state.count == SATURATED then
    return
  end
  state.count = max(state.count - hits, 0)
end

local function resets_at(state)
  return (state.id + 1) * state.window
end

local function falls_to(state, target)
  if state.count > target then
    return resets_at(state)
  end
  return state.now
end

return {
  load = load, save = save, copy = copy, used = used, charge = charge, refund = refund,
  falls_to = falls_to, resets_at = resets_at, window_passes_at = resets_at,
}
