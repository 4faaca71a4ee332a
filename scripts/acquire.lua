-- acquire: sets every lock key to our token, or none of them. It does not wait, and gives way to
-- those who do.
--
-- KEYS   the lock keys of one lock, and their queues (see queue.lua)
-- ARGV   token, alone or behind a number as in 3~token (see extend.lua); time to live in
--        milliseconds; how many lock keys there are (left out: all of KEYS, and nobody waits)
-- reply  1                       every key is ours
--        {i, owner, pttl, time}  KEYS[i] has another owner, for pttl more milliseconds (-1: for ever);
--                                or pttl is -2: it is free, but somebody waits for it. Where there are
--                                queues, time is this node's, in microseconds
--        an error                of the command that failed
--
-- A call that fails leaves none of the keys behind.
--
-- Safe to repeat: a key that holds our exact token was set by an earlier run of this call, whose
-- reply was lost, and is ours. Its time is topped up, never cut.

local token, ttl = ARGV[1], tonumber(ARGV[2])
n = tonumber(ARGV[3] or #KEYS)
if not n or n < 1 or token == '' or not ttl or ttl < 1 or ttl > 1e15 or ttl % 1 ~= 0
  or #KEYS ~= (ARGV[3] and 3 * n or n) or #ARGV > 3 then
  return redis.error_reply('ERR bad arguments')
end

-- Returns nil once KEYS[i] is ours, or else why we cannot have it.
local function take(i)
  if #KEYS > n and first(i) and redis.call('EXISTS', KEYS[i]) == 0 then
    call(i)
    return {i, '', -2, now()}
  end
  if redis.call('SET', KEYS[i], token, 'NX', 'PX', ARGV[2]) then return end
  local owner, pttl = redis.call('GET', KEYS[i]), redis.call('PTTL', KEYS[i])
  if owner ~= token then return {i, owner, pttl, #KEYS > n and now() or nil} end
  if pttl < ttl then redis.call('SET', KEYS[i], token, 'PX', ARGV[2]) end
end

local taken = 0
local function acquire()
  for i = 1, n do
    local refusal = take(i)
    if refusal then return refusal end
    taken = i
  end
  return 1
end

local ok, reply = pcall(acquire)
if reply ~= 1 then
  for i = 1, taken do
    redis.pcall('DEL', KEYS[i])
    if #KEYS > n then pcall(call, i) end -- whoever has come since an earlier run took it
  end
end
if ok then return reply end
