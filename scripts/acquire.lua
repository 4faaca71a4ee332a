-- acquire: sets every lock key to our token, or none of them. It does not wait, and gives way to
-- those who do.
--
-- KEYS   the lock keys of one lock; their queues (see queue.lua), if those who wait are to be
--        heeded; with fencing, at the end, a counter for each lock key (see fence.lua)
-- ARGV   token, alone or behind a number as in 3~token (see extend.lua); time to live in
--        milliseconds; how many lock keys there are, which may be left out if the other half are
--        their queues; with fencing: what the fence must be at least (see fence.lua)
-- reply  1                       every key is ours; with fencing the fence in place of the 1, as
--                                text
--        {i, owner, pttl, time}  KEYS[i] has another owner, for pttl more milliseconds (-1: for
--                                ever); or pttl is -2: it is free, but somebody waits for it. Where
--                                there are queues, time is this node's, in microseconds
--        an error                of the command that failed
--
-- A call that fails leaves none of the keys behind. If only the counters fail, those stay that an
-- earlier run has set: somebody may have the lock.
--
-- Safe to repeat: a key that holds our exact token was set by an earlier run of this call, whose
-- reply was lost, and is ours. Its time is topped up, never cut.

local token, ttl, fence = ARGV[1], tonumber(ARGV[2]), ARGV[4] and least(ARGV[4])
n = tonumber(ARGV[3] or #KEYS / 2)
local kinds = n and #KEYS / n -- of keys
local known = ({[2] = true, [3] = kinds == 1, [4] = fence and (kinds == 2 or kinds == 3)})[#ARGV]
if not known or n < 1 or n % 1 ~= 0 or token == ''
  or not ttl or ttl < 1 or ttl > 1e15 or ttl % 1 ~= 0 then
  return redis.error_reply('ERR bad arguments')
end

local queued = kinds == (fence and 3 or 2)
local granted = {} -- which keys were set just now
local taken = {}   -- which to delete if the call fails

-- Returns nil once KEYS[i] is ours, or else why we cannot have it.
local function take(i, waited)
  if waited and redis.call('EXISTS', KEYS[n + i]) == 1 and first(i)
    and redis.call('EXISTS', KEYS[i]) == 0 then
    call(i)
    return {i, '', -2, now()}
  end
  granted[i] = redis.call('SET', KEYS[i], token, 'NX', 'PX', ARGV[2]) and true
  if granted[i] then return end
  local owner, pttl = redis.call('GET', KEYS[i]), redis.call('PTTL', KEYS[i])
  if owner ~= token then return {i, owner, pttl, queued and now() or nil} end
  if pttl < ttl then redis.call('SET', KEYS[i], token, 'PX', ARGV[2]) end
end

local function acquire()
  local waited = queued and awaited()
  for i = 1, n do
    local refusal = take(i, waited)
    if refusal then return refusal end
    taken[i] = true
  end
  if not fence then return 1 end
  taken = granted
  return raise(n, fence, ttl, granted)
end

local ok, reply = pcall(acquire)
if not ok or type(reply) == 'table' then
  for i = 1, n do
    if taken[i] then
      redis.pcall('DEL', KEYS[i])
      if queued then pcall(call, i) end -- whoever has come since an earlier run took it
    end
  end
end
if ok then return reply end
