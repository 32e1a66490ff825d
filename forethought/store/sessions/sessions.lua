--[[ All that changes a session record, each in one atomic step.

A record is one hash:  s   state, below
                       h   head, sealed by the client
                       r0, r1, ...   rounds, sealed by the client

State is one line: fence, owner, end of the lease, status, number of rounds, committed length,
prompt length, created, updated (times in ms), and the SHA-1 of the session id and all of it.

KEYS: the record; the index of its tenant, a sorted set of session ids by time of creation. The
index is a hint: records that are gone are cleaned out of it, and records bring themselves back. What
is no sorted set gives way to one.
ARGV: operation, session id, owner, fence, lease in ms, time to live in ms, then what the operation
takes. Answers begin with a word: OK, NOT_FOUND, LOST, IN_USE, MISMATCH, CORRUPT.

Every operation may be repeated word for word without harm. All is checked before anything is
written, since what a script has written is not undone.
]]

local record, index = KEYS[1], KEYS[2]
local operation, id, owner = ARGV[1], ARGV[2], ARGV[3]
local fence, lease_ms, ttl_ms = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local MAX_RECORD_BYTES = 2^28  -- a larger one is none of ours
local MAX_STATE_BYTES = 1000

local function kind(key)
  return redis.call('TYPE', key).ok
end

-- A huge value must not hold the server up.
local function remove(key)
  redis.call('UNLINK', key)
end

if kind(index) ~= 'zset' then
  remove(index)
end

local function whole(number)
  return string.format('%.0f', number)
end

-- The line of a record's state; nil and why there is none.
local function line_of(key)
  local found = kind(key)
  if found == 'none' then
    return nil, 'NOT_FOUND'
  elseif found ~= 'hash' or redis.call('HSTRLEN', key, 's') > MAX_STATE_BYTES then
    return nil, 'CORRUPT'
  end
  local packed = redis.call('HGET', key, 's')
  return packed, not packed and 'CORRUPT' or nil
end

-- The state; or nil and why there is none to work with.
local function read()
  local packed, fault = line_of(record)
  if not packed then
    return nil, fault
  end
  local body, sum = string.match(packed, '^(.*) (%x+)$')
  if not body or redis.sha1hex(id .. ' ' .. body) ~= sum then
    return nil, 'CORRUPT'
  end
  local fence, who, lease, status, round, position, prompt, created = string.match(body,
    '^(%d+) (%S+) (%d+) (%a+) (%d+) (%d+) (%d+) (%d+) %d+$')
  if not fence then
    return nil, 'CORRUPT'  -- of another version
  end
  return {
    fence = tonumber(fence), owner = who, lease = tonumber(lease), status = status,
    round = tonumber(round), position = tonumber(position), prompt = tonumber(prompt),
    created = tonumber(created),
  }
end

local function write(state, ttl)
  local body = table.concat({
    whole(state.fence), state.owner, whole(state.lease), state.status, whole(state.round),
    whole(state.position), whole(state.prompt), whole(state.created), whole(now),
  }, ' ')
  local packed = body .. ' ' .. redis.sha1hex(id .. ' ' .. body)
  redis.call('HSET', record, 's', packed)
  redis.call('PEXPIRE', record, ttl)
  return packed
end

local function save(state)
  state.lease = lease_ms > 0 and now + lease_ms or 0
  local packed = write(state, ttl_ms)
  redis.call('ZADD', index, 'NX', whole(state.created), id)
  redis.call('PEXPIRE', index, ttl_ms)
  return packed
end

-- All fields of a record; nil if there are others than its state counts, or too much in them.
local function contents(state)
  if redis.call('HLEN', record) ~= state.round + 2 then
    return nil
  end
  local size = redis.call('HSTRLEN', record, 'h')
  for round = 0, state.round - 1 do
    size = size + redis.call('HSTRLEN', record, 'r' .. whole(round))
  end
  return size <= MAX_RECORD_BYTES and redis.call('HGETALL', record) or nil
end

-- Why this owner may not write, or nil.
local function refusal(state)
  if state.status == 'deleted' or state.fence > fence then
    return 'LOST'
  elseif state.fence < fence then
    -- The server has forgotten what it knew when the lease was given.
    return 'NOT_FOUND'
  elseif state.owner ~= owner then
    return 'LOST'
  end
end

-- The rounds in ARGV from `first` on that are new to `state`; nil if they do not follow.
local function new_rounds(state, first, is_fresh)
  local fields, round, position = {}, state.round, state.position
  for at = first, #ARGV, 4 do
    local number, start, length, value = tonumber(ARGV[at]), tonumber(ARGV[at + 1]),
      tonumber(ARGV[at + 2]), ARGV[at + 3]
    if number < state.round then
      if is_fresh or redis.call('HGET', record, 'r' .. ARGV[at]) ~= value then
        return nil
      end
    elseif number ~= round or start ~= position then
      return nil
    else
      fields[#fields + 1] = {'r' .. ARGV[at], value}
      round, position = round + 1, position + length
    end
  end
  return fields, round, position
end

local function mismatch(state)
  return {'MISMATCH', whole(state.round), whole(state.position)}
end

-- Some records of the index, at random, that are gone. Called for each new one, this keeps those
-- that are gone a minority, at a cost that does not grow.
local function clean()
  local prefix = string.sub(record, 1, -#id - 1)
  for _, other in ipairs(redis.call('ZRANDMEMBER', index, 4)) do
    if redis.call('EXISTS', prefix .. other) == 0 then
      redis.call('ZREM', index, other)
    end
  end
end

local operations = {}

-- create, restore, turn: how, prompt length, head, rounds
function operations.put()
  local how, prompt, head = ARGV[7], tonumber(ARGV[8]), ARGV[9]
  local state, fault = read()
  if not state and (how == 'turn' or (fault == 'CORRUPT' and how == 'create')) then
    return {fault}
  end
  local refused = state and refusal(state)
  if refused == 'LOST' or (refused and how ~= 'restore') then
    return {refused}
  end
  local is_same = state and not refused and redis.call('HGET', record, 'h') == head
  if state and not refused and not is_same and how ~= 'turn' then
    return mismatch(state)
  end
  local target = state
  if not is_same then
    target = {
      fence = fence, owner = owner, round = 0, position = prompt, prompt = prompt,
      created = state and state.created or now, status = 'active',
    }
  end
  local fields, round, position = new_rounds(target, 10, not is_same)
  if not fields then
    return mismatch(target)
  end
  target.round, target.position = round, position
  if not is_same then
    remove(record)
    redis.call('HSET', record, 'h', head)
  end
  for _, field in ipairs(fields) do
    redis.call('HSET', record, field[1], field[2])
  end
  save(target)
  clean()
  return {'OK', whole(fence)}
end

-- append, finish, renew, release: status, rounds. Answers the state, where it was written
function operations.write()
  local state, fault = read()
  fault = fault or refusal(state)
  if fault then
    return {fault}
  end
  local fields, round, position = new_rounds(state, 8, false)
  if not fields then
    return mismatch(state)
  end
  if state.status ~= 'active' and ARGV[7] == 'active' then
    -- A repetition that was long on its way must not wake what has ended meanwhile.
    return #fields == 0 and {'OK'} or mismatch(state)
  end
  for _, field in ipairs(fields) do
    redis.call('HSET', record, field[1], field[2])
  end
  state.round, state.position, state.status = round, position, ARGV[7]
  return {'OK', save(state)}
end

-- acquire: 1 to take it from an owner that may be alive
function operations.acquire()
  local state, fault = read()
  if fault or state.status == 'deleted' then
    return {fault or 'NOT_FOUND'}
  end
  if not contents(state) then
    return {'CORRUPT'}
  end
  if state.owner ~= owner then
    if state.lease > now and ARGV[7] ~= '1' then
      return {'IN_USE', whole(state.lease - now)}
    end
    state.owner, state.fence = owner, state.fence + 1
  end
  save(state)
  return {'OK', whole(state.fence), redis.call('HGETALL', record)}
end

-- load: the record as it is
function operations.load()
  local state, fault = read()
  if fault or state.status == 'deleted' then
    return {fault or 'NOT_FOUND'}
  end
  local fields = contents(state)
  return fields and {'OK', fields} or {'CORRUPT'}
end

-- delete: leaves a mark for as long as `ttl_ms`, so that its owner does not bring it back
function operations.delete()
  local state, fault = read()
  redis.call('ZREM', index, id)
  if fault == 'NOT_FOUND' or (state and state.status == 'deleted') then
    return {'NOT_FOUND'}
  end
  remove(record)
  if state then
    state.status, state.lease = 'deleted', 0
    write(state, ttl_ms)
  end
  return {'OK'}
end

local function is_session_id(text)
  return #text >= 22 and #text <= 64 and not string.find(text, '[^%w_-]')
end

-- list: record is the prefix of all records, id and owner mean nothing; most sessions to return,
-- most to look at, then the time and id after which to begin. Newest first. Answers ids and states
-- by turns, an empty state for a record that is none; where the next page begins; and how many
-- entries were removed that no session of ours has.
function operations.list()
  local most, scan, after, after_id = tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9], ARGV[10]
  local found, last, num_junk = {}, nil, 0
  local entries = redis.call('ZREVRANGEBYSCORE', index, after, '-inf', 'WITHSCORES',
    'LIMIT', 0, scan)
  local at = 1
  while at < #entries and #found < 2 * most do
    local other, created = entries[at], entries[at + 1]
    if not is_session_id(other) or string.find(created, '%D') then
      redis.call('ZREM', index, other)
      num_junk = num_junk + 1
    elseif created ~= after or other < after_id then
      local state, fault = line_of(record .. other)
      if fault == 'NOT_FOUND' or (state and string.find(state, ' deleted ', 1, true)) then
        redis.call('ZREM', index, other)
      else
        found[#found + 1] = other
        found[#found + 1] = state or ''
      end
      last = {created, other}
    end
    at = at + 2
  end
  local is_end = at > #entries and #entries < 2 * scan
  return {'OK', found, (last and not is_end) and last or {}, num_junk}
end

return operations[operation]()
