-- inspect: tells who has each lock key and for how long. Changes nothing.
--
-- KEYS   the lock keys of one lock; behind them, where that is asked for, their queues (see
--        queue.lua), and at the end their counters (see fence.lua)
-- ARGV   nothing; with queues or counters: how many lock keys there are; with queues: "queues"
-- reply  {owner, pttl, owner, pttl, ...}   one pair for each lock key; owner is nil where the key
--                                          is gone, pttl is -1 where it never expires. Behind all
--                                          pairs stand the counters, nil where one is gone; and
--                                          behind those how many wait for each key
--        an error                          of the command that failed

local n = tonumber(ARGV[1] or #KEYS)
local kinds = n and #KEYS / n -- of keys
local known = ({
  [0] = kinds == 1, kinds == 2, ARGV[2] == 'queues' and (kinds == 2 or kinds == 3),
})[#ARGV]
if not known or n < 1 or n % 1 ~= 0 then
  return redis.error_reply('ERR bad arguments')
end

local found = {}
local function add(value) found[#found + 1] = value end

local function inspect()
  for i = 1, n do
    add(redis.call('GET', KEYS[i]))
    add(redis.call('PTTL', KEYS[i]))
  end
  if #ARGV == 1 or kinds == 3 then
    for i = #KEYS - n + 1, #KEYS do add(redis.call('GET', KEYS[i])) end
  end
  if #ARGV == 2 then
    for i = n + 1, 2 * n do add(redis.call('ZCOUNT', KEYS[i], 0, '(inf')) end
  end
  return found
end

local ok, reply = pcall(inspect)
if ok then return reply end
