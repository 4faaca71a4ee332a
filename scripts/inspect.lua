-- inspect: tells who has each lock key and for how long. Changes nothing.
--
-- KEYS   the lock keys of one lock
-- ARGV   nothing
-- reply  {owner, pttl, owner, pttl, ...}   one pair for each key; owner is nil where the key is gone,
--                                          pttl is -1 where it never expires
--        an error                          of the command that failed

if #KEYS == 0 or #ARGV ~= 0 then return redis.error_reply('ERR bad arguments') end

local function inspect()
  local found = {}
  for i = 1, #KEYS do
    local owner = redis.pcall('GET', KEYS[i])
    if type(owner) == 'table' then return owner end
    local pttl = redis.pcall('PTTL', KEYS[i])
    if type(pttl) == 'table' then return pttl end
    found[2 * i - 1], found[2 * i] = owner, pttl
  end
  return found
end

-- The code of an error comes first. Redis 6 puts the line of the script before it.
local reply = inspect()
if type(reply) == 'table' and reply.err then
  reply.err = string.gsub(string.gsub(reply.err, '^@user_script: %d+: ', 'ERR '), '^ERR %-', '')
end
return reply
