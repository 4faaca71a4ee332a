-- extend: gives every key of a request a new time to live, if all of them hold its token.
--
-- KEYS   the lock keys of all requests, one request after the other
-- ARGV   for each request: number of its keys, token, time to live in milliseconds, mode, mark
--          "keep"   every key lives at least that long; none is shortened, so a run that comes late does no harm
--          "move"   the same, but none of the marks (numbers with commas between them) stands afterwards, so that a
--                   "cut" with one of them which is still on its way changes nothing
--          "cut"    every key lives exactly that long, if the mark still stands
-- reply  for each request
--          mark               every key is ours; the latest of their expiries, on this node's clock in milliseconds
--          {i}                its i-th key is gone; nothing was changed
--          {i, owner, pttl}   its i-th key has another owner; nothing was changed
--          {text}             the error of the first command that failed
--
-- A key that is gone stays gone.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Servers before Redis 7 do not stop the clock for a script: the same expiry may look a millisecond off.
local function near(a, b) return math.abs(a - b) <= 1 end

-- Returns the time to live, or a little more if the mark that it would leave is one of those to be avoided.
local function clear(ttl, marks)
  for mark in string.gmatch(marks, '%d+') do
    if math.abs(now + ttl - tonumber(mark)) <= 2 then return clear(ttl + 5, marks) end
  end
  return ttl
end

local function extend(first, last, token, ttl, mode, mark)
  local left, longest = {}, 0
  for k = first, last do
    local owner = redis.pcall('GET', KEYS[k])
    if not owner then return {k - first + 1} end
    if type(owner) == 'table' then return owner end
    local pttl = redis.pcall('PTTL', KEYS[k])
    if type(pttl) == 'table' then return pttl end
    if owner ~= token then return {k - first + 1, owner, pttl} end
    left[k] = pttl
    longest = math.max(longest, pttl)
  end

  if mode == 'cut' then
    if not near(now + longest, tonumber(mark) or 0) then return now + longest end
    longest = ttl
  else
    longest = math.max(longest, ttl)
  end
  if mode == 'move' then
    longest = clear(longest, mark)
    ttl = longest
  end

  for k = first, last do
    local live = mode == 'cut' and ttl or math.max(ttl, left[k])
    if live ~= left[k] then
      local done = redis.pcall('PEXPIRE', KEYS[k], live)
      if type(done) == 'table' then return done end
    end
  end
  return now + longest
end

-- An error inside a list is more than go-redis can read in some versions, so its text has to do.
local function answer(reply)
  return type(reply) == 'table' and reply.err and {reply.err} or reply
end

-- What does not add up is refused as a whole, before anything has run.
local count = 0
for arg = 1, #ARGV, 5 do
  local n = tonumber(ARGV[arg]) or 0
  if n < 1 or n % 1 ~= 0 then return redis.error_reply('ERR bad number of keys') end
  count = count + n
  local ttl, mode = tonumber(ARGV[arg + 2]) or 0, ARGV[arg + 3]
  if ttl < 1 or ttl % 1 ~= 0 then return redis.error_reply('ERR bad TTL') end
  if mode ~= 'keep' and mode ~= 'move' and mode ~= 'cut' then return redis.error_reply('ERR bad mode') end
end
if count ~= #KEYS or #ARGV % 5 ~= 0 then return redis.error_reply('ERR bad number of arguments') end

local replies, key = {}, 1
for arg = 1, #ARGV, 5 do
  local after = key + tonumber(ARGV[arg])
  replies[#replies + 1] = answer(extend(key, after - 1,
    ARGV[arg + 1], tonumber(ARGV[arg + 2]), ARGV[arg + 3], ARGV[arg + 4]))
  key = after
end
return replies
