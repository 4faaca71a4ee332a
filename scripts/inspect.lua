-- inspect: tells who has each key of a request and for how long. Changes nothing.
--
-- KEYS   the lock keys of all requests, one request after the other
-- ARGV   for each request: number of its keys
-- reply  for each request
--          {owner, pttl, owner, pttl, ...}   one pair for each key; owner is nil where the key is gone,
--                                            pttl is -1 where it never expires
--          {text}                            the error of the first command that failed

local function inspect(first, last)
  local found = {}
  for k = first, last do
    local owner = redis.pcall('GET', KEYS[k])
    if type(owner) == 'table' then return owner end
    local pttl = redis.pcall('PTTL', KEYS[k])
    if type(pttl) == 'table' then return pttl end
    found[#found + 1] = owner
    found[#found + 1] = pttl
  end
  return found
end

-- An error inside a list is more than go-redis can read in some versions, so its text has to do.
local function answer(reply)
  return type(reply) == 'table' and reply.err and {reply.err} or reply
end

-- What does not add up is refused as a whole, before anything has run.
local count = 0
for arg = 1, #ARGV do
  local n = tonumber(ARGV[arg]) or 0
  if n < 1 or n % 1 ~= 0 then return redis.error_reply('ERR bad number of keys') end
  count = count + n
end
if count ~= #KEYS then return redis.error_reply('ERR bad number of arguments') end

local replies, key = {}, 1
for arg = 1, #ARGV do
  local after = key + tonumber(ARGV[arg])
  replies[#replies + 1] = answer(inspect(key, after - 1))
  key = after
end
return replies
