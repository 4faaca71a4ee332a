-- release: deletes the lock keys that are ours and leaves all others alone.
--
-- KEYS   the lock keys of one lock
-- ARGV   token, number of the lock's latest shortening (0: none)
-- reply  1                  all keys were ours and are deleted, or none was there: nothing of ours is left
--        {i}                some keys were ours and are deleted, but KEYS[i] was gone
--        {i, owner, pttl}   the same, but KEYS[i] has another owner (pttl -1: for ever)
--        an error           of the command that failed; keys after that are untouched
--
-- Safe to repeat: all keys gone is what a second run finds after the first one's reply was lost.

local token, number = ARGV[1], tonumber(ARGV[2])
if #KEYS == 0 or #ARGV ~= 2 or token == '' or not number or number < 0 or number > 1e15 or number % 1 ~= 0 then
  return redis.error_reply('ERR bad arguments')
end

-- Reports whether a value is our token, alone or behind the number of a shortening (see extend.lua).
local function ours(value)
  if value == token then return true end
  local n = tonumber(string.match(value, '^(%d+)~') or '')
  return n and n <= number and value == string.format('%.0f~', n) .. token
end

local function release()
  local deleted, missing, foreign = 0, nil, nil
  for i = 1, #KEYS do
    local value = redis.pcall('GET', KEYS[i])
    if type(value) == 'table' then
      if not string.find(value.err, 'WRONGTYPE', 1, true) then return value end
      value = '' -- not a string, and so not a lock of ours
    end
    if not value then
      missing = missing or {i}
    elseif ours(value) then
      local done = redis.pcall('DEL', KEYS[i])
      if type(done) == 'table' then return done end
      deleted = deleted + 1
    elseif not foreign then
      local pttl = redis.pcall('PTTL', KEYS[i])
      foreign = {i, value, type(pttl) == 'number' and pttl or -1}
    end
  end
  return foreign or deleted > 0 and missing or 1
end

-- The code of an error comes first. Redis 6 puts the line of the script before it.
local reply = release()
if type(reply) == 'table' and reply.err then
  reply.err = string.gsub(string.gsub(reply.err, '^@user_script: %d+: ', 'ERR '), '^ERR %-', '')
end
return reply
