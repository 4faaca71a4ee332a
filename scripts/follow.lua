-- follow: tells who has a lock, or while it is free, for whom it is kept; and what others may read
-- of what they wait for. Changes nothing.
--
-- KEYS   a lock key, the hash that waits.lua writes, and its queue (see queue.lua)
-- ARGV   nothing
-- reply  {owner, {field, value, ...}}       owner is nil where the key is gone and nobody waits for
--                                           it
--        {nil, {field, value, ...}, name}   it is gone, and that name is first in its queue
--        an error                           of the command that failed

if #KEYS ~= 3 or #ARGV ~= 0 then return redis.error_reply('ERR bad arguments') end

local function follow()
  local owner = redis.call('GET', KEYS[1])
  local name = not owner and redis.call('ZRANGEBYSCORE', KEYS[3], 0, '(inf', 'LIMIT', 0, 1)[1]
  local fields = (owner or name) and redis.call('HGETALL', KEYS[2]) or {}
  return {owner, fields, name or nil}
end

local ok, reply = pcall(follow)
if ok then return reply end
