-- Has replicas agree on which server of `failover_urls` they use. Runs on each of those servers.
--
-- KEYS[1]: a hash, field = replica, value = '<seen> <epoch>': when it was here last, in milliseconds since 1970 by this
-- server's clock, and the latest lease that it had heard of; or `deaf` or `left`.
-- KEYS[2]: the lease, '<epoch> <server>': that server is in use. It expires unless a replica that reaches the server
-- in use renews it. A key of another type is replaced.
-- ARGV: what to do, replica (empty: an observer, who only watches), the epoch of the latest lease that it has
-- heard of (`deaf` if it got no answer from this server lately), epoch and server of a lease, milliseconds that a lease lasts, milliseconds that an absent replica is
-- remembered.
-- 'watch'    changes no lease
-- 'update'   replaces an older lease: one of a lower epoch, or of the same one and with a later name
-- 'renew'    the same, and makes the lease last on: the replica has reached that server
-- 'claim'    takes the lease if there is none
-- 'move'     takes the lease of a lower epoch if more than half of the known replicas are here
-- 'leave'    forgets the replica
--
-- Returns the lease or nil, how many replicas are remembered, how many of them are here now (they were within the
-- time of a lease, and got answers) and have heard of no later lease, how long ago the last of the others was here, in milliseconds,
-- and how many have left within the time that they would be remembered. A hash of another type is an error.

local members, lease, wish, replica = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local heard, epoch, server = ARGV[3], tonumber(ARGV[4]), ARGV[5]
local lasts, remembered = tonumber(ARGV[6]), tonumber(ARGV[7])

-- Redis 6.2 wraps what `call` throws; what `pcall` returns reads the same everywhere.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if replica == '' then
  wish = 'watch'
else
  if wish == 'leave' then
    heard = 'left'
  end
  local written = redis.pcall('HSET', members, replica, string.format('%.0f %s', now, heard))
  if type(written) == 'table' then
    return written
  end
  redis.call('PEXPIRE', members, remembered)
end

local known, left, present, absent = 0, 0, {}, remembered
local all = redis.pcall('HGETALL', members)
if all.err then
  return all
end
for i = 1, #all, 2 do
  local at, of = string.match(all[i + 1], '^(%d+) (%w+)$')
  local ago = at and math.abs(now - at) or remembered
  if ago < remembered and of == 'left' then
    left = left + 1
  elseif ago < remembered then
    known = known + 1
    if ago < lasts and tonumber(of) then
      present[#present + 1] = tonumber(of)
    else
      absent = math.min(absent, ago)
    end
  elseif replica ~= '' then
    redis.call('HDEL', members, all[i])
  end
end

local held = redis.call('MGET', lease)[1]
local held_epoch, held_server = string.match(held or '', '^(%d+) (.+)$')
held_epoch = tonumber(held_epoch)
local is_majority = #present * 2 > known
-- By bytes: `<` depends on the server's locale.
local function is_before(a, b)
  for i = 1, math.min(#a, #b) do
    if string.byte(a, i) ~= string.byte(b, i) then
      return string.byte(a, i) < string.byte(b, i)
    end
  end
  return #a < #b
end
local is_later = held_epoch
  and (epoch > held_epoch or (epoch == held_epoch and is_before(server, held_server)))
local taken = false
if wish == 'update' then
  taken = is_later
elseif wish == 'renew' then
  taken = is_later or not held_epoch or (epoch == held_epoch and server == held_server)
elseif wish == 'claim' then
  taken = not held_epoch
elseif wish == 'move' then
  taken = is_majority and (not held_epoch or epoch > held_epoch)
end
if taken then
  held, held_epoch = string.format('%.0f %s', epoch, server), epoch
  redis.call('SET', lease, held, 'PX', lasts)
end

local here = 0
for _, of in ipairs(present) do
  if not held_epoch or of <= held_epoch then
    here = here + 1
  end
end
return { held_epoch and held or false, known, here, known > #present and absent or 0, left }
