-- extend: gives every key of a request a new time to live, if all of them hold its token.
--
-- KEYS   the lock keys of all requests, one request after the other
-- ARGV   for each request: number of its keys, token, time to live in milliseconds, mode, mark
--          "keep"   every key lives at least that long; none is shortened, so a run that comes late does no harm
--          "move"   the same, but no key expires when it did before, so that a "cut" which is still on its way finds
--                   its mark gone
--          "cut"    every key lives exactly that long, if the mark still stands: a second or late run changes nothing
-- reply  for each request
--          mark               every key is ours; the latest of their expiries, on this node's clock in milliseconds
--          {i}                its i-th key is gone; nothing was changed
--          {i, owner, pttl}   its i-th key has another owner; nothing was changed
--          an error           of the first command that failed
--
-- A key that is gone stays gone.

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function extend(first, last, token, ttl, mode, mark)
  local left = {}
  local longest = 0
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

  -- Servers before Redis 7 do not stop the clock for a script: the same expiry may look a millisecond off.
  if mode == 'cut' and math.abs(now + longest - mark) > 1 then return now + longest end

  longest = 0
  for k = first, last do
    local live = ttl
    if mode == 'move' then
      live = math.max(ttl, left[k] + 5)
    elseif mode == 'keep' then
      live = math.max(ttl, left[k])
    end
    if live ~= left[k] then
      local done = redis.pcall('PEXPIRE', KEYS[k], live)
      if type(done) == 'table' then return done end
    end
    longest = math.max(longest, live)
  end
  return now + longest
end

local replies, key = {}, 1
for arg = 1, #ARGV, 5 do
  local after = key + ARGV[arg]
  replies[#replies + 1] = extend(key, after - 1,
    ARGV[arg + 1], tonumber(ARGV[arg + 2]), ARGV[arg + 3], tonumber(ARGV[arg + 4]))
  key = after
end
return replies
