-- Says that a replica is there, and who else is.
--
-- KEYS[1]: a hash, field = replica, value = '<breaker state> <since> <seen>', times in milliseconds
-- since the epoch by this server's clock.
-- ARGV: replica, breaker state, since (0: unknown), lifetime in milliseconds, '1' if the replica
-- leaves, and in tests the time by which to decide.
--
-- Returns the replicas that have been seen within the lifetime, sorted; nobody to one that leaves,
-- which only takes its own field along. What is older goes, and so does what is no such value or
-- claims to be seen far ahead of the clock; of more than 10,000 the ones seen last stay. The key
-- expires when nobody has written for four lifetimes. A key of another type is an error.

local key, replica, breaker, since = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local lifetime, leaves, now = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
local MOST = 10000
-- Lua takes no more than some 8,000 arguments.
local AT_ONCE = 4000

-- Redis 6.2 wraps what `call` throws; what `pcall` returns reads the same everywhere.
if leaves == '1' then
  local gone = redis.pcall('HDEL', key, replica)
  return type(gone) == 'table' and gone or {}
end

if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local value = string.format('%s %s %.0f', breaker, since, now)
local written = redis.pcall('HSET', key, replica, value)
if type(written) == 'table' then
  return written
end

local seen, live, gone = {}, {}, {}
local all = redis.call('HGETALL', key)
for i = 1, #all, 2 do
  local at = tonumber(string.match(all[i + 1], '^%S+ %d+ (%d+)$'))
  if at and math.abs(now - at) < lifetime then
    seen[all[i]] = at
    live[#live + 1] = all[i]
  else
    gone[#gone + 1] = all[i]
  end
end
if #live > MOST then
  table.sort(live, function(a, b)
    if a == replica or b == replica then
      return b ~= replica
    end
    return seen[a] > seen[b]
  end)
  while #live > MOST do
    gone[#gone + 1] = table.remove(live)
  end
end
for first = 1, #gone, AT_ONCE do
  redis.call('HDEL', key, unpack(gone, first, math.min(first + AT_ONCE - 1, #gone)))
end
redis.call('PEXPIRE', key, string.format('%.0f', 4 * lifetime))
table.sort(live)
return live
