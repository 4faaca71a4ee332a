-- acquire: sets every lock key to our token, or none of them.
--
-- KEYS   the lock keys of one lock
-- ARGV   token, alone or behind a number as in 3~token (see extend.lua); time to live in milliseconds
-- reply  1                  every key is ours
--        {i, owner, pttl}   KEYS[i] has another owner, for pttl more milliseconds (-1: for ever)
--        an error           of the first command that failed
--
-- If a key cannot be had, the keys before it are deleted: a call that fails leaves none behind.
--
-- Safe to repeat: a key that holds our exact token was set by an earlier run of this call, whose
-- reply was lost, and is ours. Its time is topped up, never cut.

local token, ttl = ARGV[1], tonumber(ARGV[2])
if #KEYS == 0 or #ARGV ~= 2 or token == '' or not ttl or ttl < 1 or ttl > 1e15 or ttl % 1 ~= 0 then
  return redis.error_reply('ERR bad arguments')
end

-- Returns nil once KEYS[i] is ours, or else why we cannot have it.
local function take(i)
  local set = redis.pcall('SET', KEYS[i], token, 'NX', 'PX', ARGV[2])
  if not set then
    local owner = redis.pcall('GET', KEYS[i])
    if type(owner) == 'table' then return owner end
    local pttl = redis.pcall('PTTL', KEYS[i])
    if type(pttl) == 'table' then return pttl end
    if owner ~= token then return {i, owner, pttl} end
    if pttl >= ttl then return end
    set = redis.pcall('SET', KEYS[i], token, 'PX', ARGV[2])
  end
  return set.err and set
end

local function acquire()
  for i = 1, #KEYS do
    local failure = take(i)
    if failure then
      for ours = 1, i - 1 do redis.pcall('DEL', KEYS[ours]) end
      return failure
    end
  end
  return 1
end

-- The code of an error comes first. Redis 6 puts the line of the script before it.
local reply = acquire()
if type(reply) == 'table' and reply.err then
  reply.err = string.gsub(string.gsub(reply.err, '^@user_script: %d+: ', 'ERR '), '^ERR %-', '')
end
return reply
