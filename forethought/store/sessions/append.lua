--[[ Adds rounds to a record that is as its owner left it.

What `sessions.lua` does to every append, for the usual one, at a third of its time: the owner sends
the state that its last append left. If that is the state still, byte for byte, then nobody else has
the session, nothing is lost or changed, and the rounds follow. In any other case nothing is done,
and the other script finds out what is wrong.

KEYS: the record; the index of its tenant.
ARGV: session id; the state to find; the new one up to the end of the lease, from there to the time
of creation, and that; lease in ms; time to live in ms; then names and values of the rounds' fields.
Answers the new state, or nothing.
]]

local record, index, id = KEYS[1], KEYS[2], ARGV[1]
if redis.call('HGET', record, 's') ~= ARGV[2] then
  return false
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local body = string.format('%s %.0f %s %s %.0f', ARGV[3], now + tonumber(ARGV[6]), ARGV[4], ARGV[5],
  now)
local state = body .. ' ' .. redis.sha1hex(id .. ' ' .. body)
redis.call('HSET', record, 's', state, unpack(ARGV, 8))
redis.call('PEXPIRE', record, ARGV[7])
redis.call('ZADD', index, 'NX', ARGV[5], id)
redis.call('PEXPIRE', index, ARGV[7])
return state
