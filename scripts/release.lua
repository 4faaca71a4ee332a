-- release: deletes the lock keys that are ours and leaves all others alone. Whoever waits for a key
-- that is free then is called.
--
-- KEYS   the lock keys of one lock, and their queues (see queue.lua)
-- ARGV   token; number of the lock's latest shortening (0: none)
--        and if there are queues: how many lock keys there are. The token alone stands for no
--        shortening, and queues
--        and if their queues change: who leaves them ('': nobody); who stands in them from now on
--        ('': nobody), with which ticket, and for how many milliseconds behind a sign. Who leaves
--        and stays goes on waiting without these keys.
-- reply  1                  all keys were ours and are deleted, or none was there: nothing of ours
--                           is left
--        {i}                some keys were ours and are deleted, but KEYS[i] was gone
--        {i, owner, pttl}   the same, but KEYS[i] has another owner (pttl -1: for ever)
--        an error           of the command that failed; keys after that are untouched
--
-- Safe to repeat: all keys gone is what a second run finds after the first one's reply was lost.

local token, number, leaver, stayer = ARGV[1], tonumber(ARGV[2] or 0), ARGV[4] or '', ARGV[5] or ''
n = tonumber(#ARGV == 1 and #KEYS / 2 or ARGV[3] or #KEYS)
if not n or n < 1 or n % 1 ~= 0 or #KEYS ~= (#ARGV == 2 and n or 2 * n)
  or not ({true, true, true, [7] = true})[#ARGV] or token == ''
  or not number or number < 0 or number > 1e15 or number % 1 ~= 0
  or leaver ~= '' and not string.find(leaver, '^%d+@')
  or stayer ~= '' and not (string.find(stayer, '^%d+@')
    and string.find(ARGV[6], '^%d+$') and string.find(ARGV[7], '^[+-]%d+$')) then
  return redis.error_reply('ERR bad arguments')
end

-- Reports whether a value is our token, alone or behind the number of a shortening (see
-- extend.lua).
local function ours(value)
  if value == token then return true end
  local stands = tonumber(string.match(value, '^(%d+)~') or '')
  return stands and stands <= number and value == text(stands) .. '~' .. token
end

-- Returns the owner of KEYS[i], '' for what is not a string and so not a lock of ours.
local function owner(i)
  local value = redis.pcall('GET', KEYS[i])
  if type(value) ~= 'table' then return value end
  if string.find(value.err, 'WRONGTYPE', 1, true) then return '' end
  error(value)
end

local deleted, missing, foreign = 0, nil, nil
local free = {} -- by index
local function delete(i)
  local value = owner(i)
  free[i] = not value or ours(value)
  if not value then
    missing = missing or {i}
  elseif free[i] then
    redis.call('DEL', KEYS[i])
    deleted = deleted + 1
  else
    foreign = foreign or {i, value, redis.call('PTTL', KEYS[i])}
  end
end

local function handOver(i)
  if leaver == '' and stayer == '' and redis.call('EXISTS', KEYS[n + i]) == 0 then return end
  if leaver ~= '' and leaver ~= stayer then leave(i, leaver) end
  if stayer ~= '' then enqueue(i, stayer, ARGV[6], ARGV[7]) end
  if free[i] and (stayer ~= leaver or first(i) ~= stayer) then call(i) end
end

local function release()
  for i = 1, n do delete(i) end
  if leaver ~= '' or stayer ~= '' or #KEYS > n and awaited() then
    for i = 1, n do handOver(i) end
  end
  return foreign or deleted > 0 and missing or 1
end

local ok, reply = pcall(release)
if ok then return reply end
