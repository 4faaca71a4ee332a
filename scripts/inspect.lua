-- inspect: tells who has each lock key and for how long. Changes nothing.
--
-- KEYS   the lock keys of one lock
-- ARGV   nothing; or "waiting": KEYS are one lock key and its queue (see queue.lua)
-- reply  {owner, pttl, owner, pttl, ...}   one pair for each lock key; owner is nil where the key is
--                                          gone, pttl is -1 where it never expires
--        {owner, pttl, waiting}            and so many wait
--        an error                          of the command that failed

local asked = ARGV[1] == 'waiting'
if #KEYS == 0 or #ARGV ~= (asked and 1 or 0) or asked and #KEYS ~= 3 then
  return redis.error_reply('ERR bad arguments')
end

local function inspect()
  local found = {}
  for i = 1, asked and 1 or #KEYS do
    found[2 * i - 1], found[2 * i] = redis.call('GET', KEYS[i]), redis.call('PTTL', KEYS[i])
  end
  if asked then found[3] = redis.call('ZCOUNT', KEYS[2], '-inf', '(inf') end
  return found
end

local ok, reply = pcall(inspect)
if ok then return reply end
