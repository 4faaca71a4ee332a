-- wait: sets every lock key to our token if all are free and nobody came before us, and leaves the
-- queues. Otherwise it stands in the queues, or goes on doing so.
--
-- KEYS   the lock keys of one lock, and their queues (see queue.lua); with fencing, at the end, a
--        counter for each lock key (see fence.lua)
-- ARGV   token; time to live in milliseconds; how many lock keys there are; our name in the queues;
--        our ticket; for how many milliseconds we are waited for, behind a sign; and
--          "take"   if we want the keys
--          "stand"  if we want no more than to stand in the queues: the attempt is over
--          "over"   if we want nothing any more. Another call leaves the queues, or did: it knows
--                   who is next
--        with fencing: what the fence must be at least (see fence.lua)
-- reply  time                                 every key is ours; by this node's clock, in
--                                             microseconds
--        {time, fence}                        the same with fencing; the fence is text
--        {i, owner, pttl, time, before, all}  as of acquire; so many have come before us to the
--                                             queue of KEYS[i], and so many stand there in all
--        an error                             of the command that failed
--
-- Safe to repeat, as acquire is. If the attempt is over by the time of the repetition, what an
-- earlier run has taken is given back. If a command fails, what was set just now is deleted.

local token, ttl, who, mode = ARGV[1], tonumber(ARGV[2]), ARGV[4], ARGV[7]
local patience = tonumber(string.match(ARGV[6] or '', '^[+-](%d+)$') or '')
local fence = ARGV[8] and least(ARGV[8])
n = tonumber(ARGV[3])
if #ARGV ~= (fence and 8 or 7) or not n or n < 1 or n % 1 ~= 0
  or #KEYS ~= (fence and 3 or 2) * n or token == ''
  or not string.find(ARGV[5], '^%d+$') or not patience or not string.find(who, '^%d+@')
  or not ttl or ttl < 1 or ttl > 1e15 or ttl % 1 ~= 0
  or mode ~= 'take' and mode ~= 'stand' and mode ~= 'over' then
  return redis.error_reply('ERR bad arguments')
end

-- Returns why we cannot have KEYS[i], or nil. We stand in its queue, unless there is none.
local function obstacle(i)
  local owner = redis.call('GET', KEYS[i])
  if owner == token then return end
  if owner or (first(i) or who) ~= who then
    local pttl = owner and redis.call('PTTL', KEYS[i]) or -2
    local before = redis.call('ZCOUNT', KEYS[n + i], 0, '(' .. ARGV[5])
    return {i, owner or '', pttl, now(), before, redis.call('ZCOUNT', KEYS[n + i], 0, '(inf')}
  end
end

-- Stands in the queues, unless all is over. Returns why we cannot have the keys, or nil.
local function stand()
  local refusal = mode ~= 'take' and {1, '', -2, now(), 0, 0} or nil
  for i = 1, n do
    if mode ~= 'over' then enqueue(i, who, ARGV[5], ARGV[6]) end
    if mode ~= 'take' and redis.call('GET', KEYS[i]) == token then redis.call('DEL', KEYS[i]) end
  end
  for i = n, 1, -1 do refusal = obstacle(i) or refusal end
  return refusal
end

local granted = {} -- which keys were set just now
local function set(i)
  granted[i] = granted[i] or redis.call('SET', KEYS[i], token, 'NX', 'PX', ARGV[2]) and true
  return granted[i]
end

-- Sets all keys, or tops up what an earlier run has set. Returns the fence, if there is one.
local function take()
  for i = 1, n do
    if not set(i) and redis.call('PTTL', KEYS[i]) < ttl then
      redis.call('SET', KEYS[i], token, 'PX', ARGV[2])
    end
  end
  return fence and raise(n, fence, ttl, granted)
end

local function wait()
  -- As nearly always, if we were called:
  local ours = mode == 'take' and n == 1 and first(1) == who and set(1)
  local refusal = not ours and stand()
  local number = not refusal and take()
  for i = 1, n do
    if not refusal then
      leave(i, who)
    elseif redis.call('EXISTS', KEYS[i]) == 0 and (mode ~= 'take' or first(i) ~= who) then
      call(i)
    end
  end
  local time = math.max(now(), 1)
  return refusal or number and {time, number} or time
end

local ok, reply = pcall(wait)
if not ok then
  for i = 1, n do
    if granted[i] then redis.pcall('DEL', KEYS[i]) end
  end
end
if ok then return reply end
