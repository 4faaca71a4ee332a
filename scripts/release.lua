-- release: deletes the keys that hold the token and leaves all others alone.
--
-- KEYS   the lock keys
-- ARGV   token
-- reply  1                  all keys were ours and are deleted, or none was there: nothing of ours is left
--        {i}                some keys were ours and are deleted, but KEYS[i] was gone
--        {i, owner, pttl}   the same, but KEYS[i] has another owner (pttl -1: for ever)
--
-- Safe to repeat: all keys gone is what a second run finds after the first one's reply got lost.

local token = ARGV[1]
local deleted, missing, foreign = 0, nil, nil

for i, key in ipairs(KEYS) do
  local owner = redis.pcall('GET', key)
  if owner == token then
    redis.call('DEL', key)
    deleted = deleted + 1
  elseif not owner then
    missing = missing or {i}
  else
    if type(owner) == 'table' then owner = '' end -- not a string key: whoever made it, not a lock of ours
    foreign = foreign or {i, owner, redis.call('PTTL', key)}
  end
end

if foreign then return foreign end
if missing and deleted > 0 then return missing end
return 1
