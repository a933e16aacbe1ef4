-- Adds to what the fleet tells of itself: one key a call, with its expiry.
--
-- ARGV: what to do, lifetime of the key in milliseconds, then
-- 'add', field, number, ...         KEYS[1] is a hash of numbers; adds to them. What is no number,
--                                   or would be too large for one, begins anew.
-- 'seen', most, member, ...         KEYS[1] is a sorted set; each member was seen now, by this
--                                   server's clock. What was not for a lifetime goes, and of more
--                                   than `most` those seen last stay.
-- 'note', most, field, value, ...   KEYS[1] is a stream; appends an entry, and keeps some `most`.
--
-- Returns 1. A key of another type is an error, and nothing is done.

local key, what, lifetime = KEYS[1], ARGV[1], ARGV[2]
-- Redis 6.2 wraps what `call` throws; what `pcall` returns reads the same everywhere.
local call = redis.pcall

if what == 'add' then
  for i = 3, #ARGV, 2 do
    local added = call('HINCRBY', key, ARGV[i], ARGV[i + 1])
    if type(added) == 'table' then
      if not string.find(added.err, 'integer', 1, true)
        and not string.find(added.err, 'overflow', 1, true) then
        return added
      end
      call('HSET', key, ARGV[i], ARGV[i + 1])
    end
  end
elseif what == 'seen' then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local line = {}
  for i = 4, #ARGV do
    line[#line + 1] = string.format('%.0f', now)
    line[#line + 1] = ARGV[i]
  end
  local added = call('ZADD', key, unpack(line))
  if type(added) == 'table' then
    return added
  end
  call('ZREMRANGEBYSCORE', key, '-inf', string.format('(%.0f', now - lifetime))
  call('ZREMRANGEBYRANK', key, '0', string.format('%.0f', -1 - ARGV[3]))
else
  local added = call('XADD', key, 'MAXLEN', '~', ARGV[3], '*', unpack(ARGV, 4))
  if type(added) == 'table' and added.err then
    return added
  end
end
call('PEXPIRE', key, lifetime)
return 1
