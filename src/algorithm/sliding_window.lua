-- The sibling of sliding_window.rs: the same state, the same numbers.
--
-- Returns functions on one key's state. `load` reads it (raw: the key's string, or false) and
-- returns nil if the string is not one it knows. Stored: version, bytes of a cell (1 to 5), number
-- of the newest cell, then the cells, the newest first, up to the last that is not empty; 9 to 63
-- bytes, 10 to 19 where no cell holds more than 255.

local floor, max, min = math.floor, math.max, math.min
local SATURATED = 4294967296
local CELLS, CELLS_PER_WINDOW = 11, 10
local VERSION, HEADER, HEADER_SIZE = 1, '>BBI6', 8

-- state.cells[1] is the newest; state.live of them, counted from there, count at `now`; state.sum
-- is what they hold.
local function load(raw, window, now)
  local cell_millis = window / CELLS_PER_WINDOW
  local current = floor(now / cell_millis)
  local cells = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
  local state = {
    newest = current, current = current, live = CELLS, sum = 0, cells = cells,
    cell_millis = cell_millis, now = now,
  }
  if raw then
    if #raw <= HEADER_SIZE or string.byte(raw) ~= VERSION then
      return nil
    end
    local _, width, newest = struct.unpack(HEADER, raw)
    local count = (#raw - HEADER_SIZE) / width
    if width < 1 or width > 5 or count > CELLS or count ~= floor(count) then
      return nil
    end
    local format = '>I' .. width
    for i = 1, count do
      cells[i] = struct.unpack(format, raw, HEADER_SIZE + 1 + (i - 1) * width)
    end
    state.newest = newest
    -- If the clock stepped back, the cell that was charged last.
    state.current = max(current, newest)
    state.live = max(CELLS - (state.current - newest), 0)
    for i = 1, state.live do
      state.sum = state.sum + cells[i]
    end
  end
  return state
end

local function save(state)
  local cells, count, most = state.cells, 1, 0
  for i = 1, CELLS do
    local cell = cells[i]
    if cell > 0 then
      count = i
      if cell > most then
        most = cell
      end
    end
  end
  local width = 1
  while most >= 256 do
    width, most = width + 1, floor(most / 256)
  end
  local format = HEADER .. string.rep('I' .. width, count)
  return struct.pack(format, VERSION, width, state.newest, unpack(cells, 1, count))
end

local function copy(state)
  return {
    newest = state.newest, current = state.current, live = state.live, sum = state.sum,
    cells = { unpack(state.cells) }, cell_millis = state.cell_millis, now = state.now,
  }
end

local function used(state)
  return min(state.sum, SATURATED)
end

local function charge(state, hits)
  local cells = state.cells
  local passed = state.current - state.newest
  if passed > 0 then
    for i = CELLS, 1, -1 do
      cells[i] = cells[i - passed] or 0
    end
    state.newest, state.live = state.current, CELLS
  end
  local charged = min(cells[1] + hits, SATURATED)
  state.sum = state.sum + charged - cells[1]
  cells[1] = charged
end

-- With `charged`: gives back hits that were charged then, from the cell of that time.
local function refund(state, hits, _, _, charged)
  local cells, first, last = state.cells, 1, state.live
  if charged then
    first = state.newest - floor(charged / state.cell_millis) + 1
    if first < 1 or first > last or cells[first] == SATURATED then
      return
    end
    last = first
  end
  for i = first, last do
    local back = min(cells[i], hits)
    cells[i] = cells[i] - back
    state.sum = state.sum - back
    hits = hits - back
  end
end

local function falls_to(state, target)
  local left, at, cells = state.sum, state.now, state.cells
  local out = state.newest + 1 + CELLS
  if left > target and target == 0 then
    -- All but what is empty anyway: the newest cell that is not.
    local i = 1
    while cells[i] == 0 do
      i = i + 1
    end
    return (out - i) * state.cell_millis
  end
  for i = state.live, 1, -1 do
    if left <= target then
      break
    end
    left = left - cells[i]
    at = (out - i) * state.cell_millis
  end
  return at
end

local function resets_at(state)
  return falls_to(state, 0)
end

-- When a whole window has passed: the reset reported for hits that can never pass.
local function window_passes_at(state)
  return state.now + state.cell_millis * CELLS_PER_WINDOW
end

return {
  load = load, save = save, copy = copy, used = used, charge = charge, refund = refund,
  falls_to = falls_to, resets_at = resets_at, window_passes_at = window_passes_at,
}
