-- queue: what the scripts share that know who waits. It stands in front of acquire, wait, watch and
-- release. The first n of KEYS are lock keys. Each has a queue of those who wait for it:
--
-- KEYS[n + i]      a sorted set of them. The score is a ticket: when they came, in microseconds, as
--                  they would have read it on the nodes' clocks. It is the same on every node. Who
--                  only watches has the ticket inf, behind all who wait.
-- KEYS[2 * n + i]  a hash that tells until when each of them is waited for, by this node's clock, in
--                  microseconds behind a sign.
--
-- A name in the queue is number .. '@' .. inbox: the inbox is a channel to which its process listens.
-- The sign is + where the process has heard that it does so on this very server: then nobody who
-- hears means nobody who waits.
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

-- Puts somebody into the queue of KEYS[i], or keeps them there, for so many milliseconds behind a
-- sign. The keys of the queue outlive everybody in it by a second or two.
local function enqueue(i, who, ticket, signed)
  if now() == 0 then return end
  local sign, patience = string.sub(signed, 1, 1), tonumber(string.sub(signed, 2))
  redis.call('ZADD', KEYS[n + i], ticket, who)
  redis.call('HSET', KEYS[2 * n + i], who, sign .. text(now() + patience * 1000))
  if redis.call('PTTL', KEYS[n + i]) < patience + 1000 then
    redis.call('PEXPIRE', KEYS[n + i], text(patience + 2000))
    redis.call('PEXPIRE', KEYS[2 * n + i], text(patience + 2000))
  end
end

local function leave(i, who)
  redis.call('ZREM', KEYS[n + i], who)
  redis.call('HDEL', KEYS[2 * n + i], who)
end

-- Returns who is first in the queue of KEYS[i], until when and with which sign, and who is second; nil
-- if nobody waits. Those in front whose time is over are forgotten.
local function first(i)
  while true do
    local two = redis.call('ZRANGE', KEYS[n + i], 0, 1, 'WITHSCORES')
    if not two[1] or two[2] == 'inf' then return end
    local signed = redis.call('HGET', KEYS[2 * n + i], two[1]) or '-0'
    local due = tonumber(string.sub(signed, 2))
    if due > now() then return two[1], due, string.sub(signed, 1, 1), two[4] ~= 'inf' and two[3] end
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
    local head, due, sign, second = first(i)
    if not head then
      for _, watcher in ipairs(redis.call('ZRANGE', KEYS[n + i], 0, -1)) do
        tell(watcher, 'free')
        leave(i, watcher)
      end
      return
    end
    if due <= now() + grace then return end
    local heard = tell(head, 'come')
    if type(heard) == 'number' and heard > 0 then
      redis.call('HSET', KEYS[2 * n + i], head, sign .. text(now() + grace))
      if second then tell(second, 'stand-by') end
      return
    end
    if heard ~= 0 or sign == '-' then return end -- it cannot be told whether somebody has heard it
    leave(i, head)                               -- its process is gone
  end
end
