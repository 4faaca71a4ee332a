-- inspect: tells who has each key and for how long. Changes nothing.
--
-- KEYS   the lock keys
-- reply  {owner, pttl, owner, pttl, ...}   one pair for each key; owner is nil where the key is gone,
--                                          pttl is -1 where it never expires

local reply = {}
for _, key in ipairs(KEYS) do
  reply[#reply + 1] = redis.call('GET', key)
  reply[#reply + 1] = redis.call('PTTL', key)
end
return reply
