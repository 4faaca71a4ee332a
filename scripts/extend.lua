-- extend: gives every lock key a new time to live, if all of them are ours.
--
-- KEYS   the lock keys of one lock; with fencing, behind them, a counter for each (see fence.lua)
-- ARGV   token, number of the lock's latest shortening (0: none), time to live in milliseconds,
--        mode
--          "keep"   every key lives at least that long: none is shortened
--          "cut"    every key on which a smaller number stands lives exactly that long, the others
--                   as before
--        with fencing: the fence of the lock, to which the counters are raised; none is lowered
-- reply  1                  every key is ours; with fencing the counters' number in place of the 1,
--                           as text
--        {i}                KEYS[i] is gone; nothing was changed
--        {i, owner, pttl}   KEYS[i] has another owner; nothing was changed
--        an error           of the command that failed; keys after that are as they were
--
-- The number stands in front of the token, as in 3~token, from the first shortening on. Both modes
-- raise it to their own. So a cut that comes late, or twice, finds its number on every key that a
-- later extension has reached, and cannot shorten what that extension gave. Where it finds a number
-- beyond its own, the lock's owner has gone on without it: it says that the key has another owner.
--
-- A key that is gone stays gone.

local function whole(text)
  local n = tonumber(text)
  return n and n >= 0 and n <= 1e15 and n % 1 == 0 and n
end

local token, number, ttl, mode = ARGV[1], whole(ARGV[2]), whole(ARGV[3]), ARGV[4]
local fence = ARGV[5] and least('=' .. ARGV[5])
local n = ARGV[5] and #KEYS / 2 or #KEYS
local known = (mode == 'keep' or mode == 'cut' and number ~= 0)
  and #ARGV == (fence and 5 or 4) and n % 1 == 0
if #KEYS == 0 or token == '' or not number or not ttl or ttl < 1 or not known then
  return redis.error_reply('ERR bad arguments')
end

-- Returns the number on a value of ours, or nil if it is not ours or its number is beyond our own.
local function numberOn(value)
  if value == token then return 0 end
  local n = tonumber(string.match(value, '^(%d+)~') or '')
  if n and n <= number and value == string.format('%.0f~', n) .. token then return n end
end

local function extend()
  local stands, left = {}, {}
  for i = 1, n do
    local value = redis.call('GET', KEYS[i])
    if not value then return {i} end
    stands[i], left[i] = numberOn(value), redis.call('PTTL', KEYS[i])
    if not stands[i] then return {i, value, left[i]} end
  end

  -- Before anything is given: an extension that fails for the counters has changed nothing of the
  -- lock.
  local reply = fence and raise(n, fence, ttl) or 1

  local numbered = string.format('%.0f~', number) .. token
  for i = 1, n do
    local live = math.max(ttl, left[i])
    if stands[i] < number then
      if mode == 'cut' then live = ttl end
      redis.call('SET', KEYS[i], numbered, 'PX', string.format('%.0f', live))
    elseif mode == 'keep' and live > left[i] then
      redis.call('PEXPIRE', KEYS[i], string.format('%.0f', live))
    end
  end
  return reply
end

local ok, reply = pcall(extend)
if ok then return reply end
