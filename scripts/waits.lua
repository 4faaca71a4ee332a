-- waits: lets others read what somebody waits for, under a lock key that is kept from those others:
-- by who has it, or while it is free, by who is first in its queue. Or takes that back.
--
-- KEYS   each lock key, and behind it the hash that is read, and its queue (see queue.lua)
-- ARGV   token of the owner, or name in the queue; a name that does not give the token away; name
--        of the wait; time to live in milliseconds, or 0 to take it back; what is to be read
-- reply  1           done, wherever the lock key is kept by that owner or for that name
--        an error    of the first command that failed
--
-- The hash has one field for each wait, and the second argument in the field "owner". What a former
-- owner has left there goes.

local token, name, wait, ttl, text = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local bad = #KEYS == 0 or #KEYS % 3 ~= 0 or #ARGV ~= 5
  or token == '' or name == '' or wait == '' or wait == 'owner'
if bad or not ttl or ttl < 0 or ttl > 1e15 or ttl % 1 ~= 0 then
  return redis.error_reply('ERR bad arguments')
end

-- Reports whether we keep a lock key: its value is the token, alone or behind numbers (see
-- extend.lua). Nobody else's ends like it.
local function keeps(i)
  local value = redis.call('GET', KEYS[i])
  if value then return string.sub(value, -#token) == token end
  return redis.call('ZRANGEBYSCORE', KEYS[i + 2], 0, '(inf', 'LIMIT', 0, 1)[1] == token
end

local function publish(i)
  if not keeps(i) then return end
  local owner = redis.call('HGET', KEYS[i + 1], 'owner')
  if owner and owner ~= name then redis.call('DEL', KEYS[i + 1]) end
  redis.call('HSET', KEYS[i + 1], 'owner', name, wait, text)
  redis.call('PEXPIRE', KEYS[i + 1], ARGV[4])
end

local function withdraw(i)
  redis.call('HDEL', KEYS[i + 1], wait)
  local left = redis.call('HGETALL', KEYS[i + 1])
  if #left == 2 and left[1] == 'owner' then redis.call('DEL', KEYS[i + 1]) end
end

local function waits()
  for i = 1, #KEYS, 3 do
    if ttl > 0 then publish(i) else withdraw(i) end
  end
  return 1
end

local ok, reply = pcall(waits)
if ok then return reply end
