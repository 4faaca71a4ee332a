-- watch: tells who has a lock key, and if somebody has it, has us told when it is free.
--
-- KEYS   one lock key, and its queue (see queue.lua)
-- ARGV   our name in the queue; for how many milliseconds we are told, behind a sign. Without both,
--        and with the lock key alone, nobody is told
-- reply  {owner, pttl}  as of inspect
--        an error       of the command that failed

n = 1
if #KEYS ~= (#ARGV == 0 and 1 or 2) or #ARGV ~= 0
  and (#ARGV ~= 2 or not string.find(ARGV[1], '^%d+@')
    or not string.find(ARGV[2], '^[+-]%d+$')) then
  return redis.error_reply('ERR bad arguments')
end

local function watch()
  local owner = redis.call('GET', KEYS[1])
  if owner and #ARGV > 0 then enqueue(1, ARGV[1], 'inf', ARGV[2]) end
  return {owner, redis.call('PTTL', KEYS[1])}
end

local ok, reply = pcall(watch)
if ok then return reply end
