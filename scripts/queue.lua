-- queue: what the scripts share that know who waits. It stands in front of acquire, wait, watch and
-- release. The first n of KEYS are lock keys. KEYS[n + i] is the queue of those who wait for
-- KEYS[i]: a sorted set, in which each of them is twice.
--
--   who          with a ticket: when they came, in microseconds, as they would have read it on the
--                nodes' clocks. It is the same on every node. Who only watches has the ticket inf,
--                behind all who wait.
--   sign .. who  with the time until which they are waited for, by this node's clock, in
--                microseconds below zero.
--
-- who is number .. '@' .. inbox: the inbox is a channel to which their process listens. The sign is
-- + where the process has heard that it does so on this very server: then nobody who hears means
-- nobody who waits. Else it is -.
--
-- Where scripts may not ask for the time, there are no queues: nobody could be forgotten in them.

local n
local grace = 250000 -- microseconds that somebody who was called has to come

local clock -- read once, and only if somebody waits; 0 where scripts may not read it
local function now()
  if not clock then
    local time = redis.pcall('TIME')
    clock = time[1] and time[1] * 1000000 + time[2] or 0
  end
  return clock
end

local function text(number) return string.format('%.0f', number) end -- tostring would round it

-- Reports whether somebody waits for one of the keys. It asks for eight queues at a time: with many
-- keys, the calls are most of what a script costs.
local function awaited()
  local i = n + 1
  while i <= 2 * n - 7 do
    if redis.call('EXISTS', KEYS[i], KEYS[i + 1], KEYS[i + 2], KEYS[i + 3],
      KEYS[i + 4], KEYS[i + 5], KEYS[i + 6], KEYS[i + 7]) > 0 then
      return true
    end
    i = i + 8
  end
  for j = i, 2 * n do
    if redis.call('EXISTS', KEYS[j]) == 1 then return true end
  end
  return false
end

-- Puts somebody into the queue of KEYS[i], or keeps them there, for so many milliseconds behind a
-- sign. The queue outlives everybody in it by a second or two.
local function enqueue(i, who, ticket, signed)
  if now() == 0 then return end
  local sign, patience = string.sub(signed, 1, 1), tonumber(string.sub(signed, 2))
  redis.call('ZADD', KEYS[n + i], ticket, who, text(-now() - patience * 1000), sign .. who)
  redis.call('ZREM', KEYS[n + i], (sign == '+' and '-' or '+') .. who)
  if redis.call('PTTL', KEYS[n + i]) < patience + 1000 then
    redis.call('PEXPIRE', KEYS[n + i], text(patience + 2000))
  end
end

local function leave(i, who) redis.call('ZREM', KEYS[n + i], who, '+' .. who, '-' .. who) end

-- Returns until when somebody in the queue of KEYS[i] is waited for, and with which sign.
local function due(i, who)
  for _, sign in ipairs({'+', '-'}) do
    local score = redis.call('ZSCORE', KEYS[n + i], sign .. who)
    if score then return -tonumber(score), sign end
  end
  return 0, '-'
end

-- Returns who is first in the queue of KEYS[i], until when and with which sign, and who is second;
-- nil if nobody waits. Those in front whose time is over are forgotten.
local function first(i)
  while true do
    local two = redis.call('ZRANGEBYSCORE', KEYS[n + i], 0, '(inf', 'LIMIT', 0, 2)
    if not two[1] then return end
    local till, sign = due(i, two[1])
    if till > now() then return two[1], till, sign, two[2] end
    leave(i, two[1])
  end
end

-- Sends a word to somebody. Returns how many have heard it, or an error.
local function tell(who, word)
  local number, inbox = string.match(who, '^(%d+)@(.*)$')
  return redis.pcall('PUBLISH', inbox, word .. ' ' .. number .. ' ' .. text(now()))
end

-- Calls who is first in the queue of KEYS[i], which is free, unless that was done before. Who was
-- called and does not come is waited for no longer than the grace: the second stands by. If nobody
-- waits, those who watch are told.
local function call(i)
  while true do
    local head, till, sign, second = first(i)
    if not head then
      for _, watcher in ipairs(redis.call('ZRANGEBYSCORE', KEYS[n + i], 'inf', 'inf')) do
        tell(watcher, 'free')
        leave(i, watcher)
      end
      return
    end
    if till <= now() + grace then return end
    local heard = tell(head, 'come')
    if type(heard) == 'number' and heard > 0 then
      redis.call('ZADD', KEYS[n + i], text(-now() - grace), sign .. head)
      if second then tell(second, 'stand-by') end
      return
    end
    if heard ~= 0 or sign == '-' then return end -- it cannot be told whether somebody has heard it
    leave(i, head)                               -- its process is gone
  end
end
