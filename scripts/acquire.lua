-- acquire: sets every key to the token, or none of them.
--
-- KEYS   the lock keys
-- ARGV   token, time to live in milliseconds
-- reply  1                  every key is ours
--        {i, owner, pttl}   KEYS[i] has another owner for pttl more milliseconds (-1: for ever)
--
-- Safe to repeat: a key that holds our exact token was set by an earlier run of this same call, whose reply got lost,
-- and is ours. Its time is topped up, never cut.

local token, ttl = ARGV[1], ARGV[2]
local taken = {}

local function undo()
  for _, key in ipairs(taken) do redis.call('DEL', key) end
end

for i, key in ipairs(KEYS) do
  if redis.call('SET', key, token, 'NX', 'PX', ttl) then
    taken[#taken + 1] = key
  else
    local owner = redis.pcall('GET', key)
    if type(owner) == 'table' then -- an error: not a string key
      undo()
      return owner
    elseif owner ~= token then
      undo()
      return {i, owner, redis.call('PTTL', key)}
    elseif redis.call('PTTL', key) < tonumber(ttl) then
      redis.call('PEXPIRE', key, ttl)
    end
  end
end
return 1
