-- acquire: sets every key of a request to its token, or none of them.
--
-- KEYS   the lock keys of all requests, one request after the other
-- ARGV   for each request: number of its keys, token, time to live in milliseconds
-- reply  for each request
--          1                  every key is ours
--          {i, owner, pttl}   its i-th key has another owner, for pttl more milliseconds (-1: for ever)
--          {text}             the error of the first command that failed
--
-- Where not all keys can be had, those before the one that failed are deleted, whenever they became ours.
--
-- Safe to repeat: a key that holds our exact token was set by an earlier run of this same request, whose reply got lost,
-- and is ours. Its time is topped up, never cut.

-- Returns nil if the key is ours already, or else why we cannot have it.
local function obstacle(i, key, token, ttl)
  local owner = redis.pcall('GET', key)
  if type(owner) == 'table' then return owner end
  local pttl = redis.pcall('PTTL', key)
  if type(pttl) == 'table' then return pttl end
  if owner ~= token then return {i, owner, pttl} end
  if pttl < tonumber(ttl) then redis.pcall('PEXPIRE', key, ttl) end
end

local function acquire(first, last, token, ttl)
  for k = first, last do
    local failure = redis.pcall('SET', KEYS[k], token, 'NX', 'PX', ttl)
    if not failure then
      failure = obstacle(k - first + 1, KEYS[k], token, ttl)
    elseif not failure.err then
      failure = nil
    end
    if failure then
      for ours = first, k - 1 do redis.pcall('DEL', KEYS[ours]) end
      return failure
    end
  end
  return 1
end

-- An error inside a list is more than go-redis can read in some versions, so its text has to do.
local function answer(reply)
  return type(reply) == 'table' and reply.err and {reply.err} or reply
end

-- What does not add up is refused as a whole, before anything has run.
local count = 0
for arg = 1, #ARGV, 3 do
  local n = tonumber(ARGV[arg]) or 0
  if n < 1 or n % 1 ~= 0 then return redis.error_reply('ERR bad number of keys') end
  count = count + n
end
if count ~= #KEYS or #ARGV % 3 ~= 0 then return redis.error_reply('ERR bad number of arguments') end

local replies, key = {}, 1
for arg = 1, #ARGV, 3 do
  local after = key + tonumber(ARGV[arg])
  replies[#replies + 1] = answer(acquire(key, after - 1, ARGV[arg + 1], ARGV[arg + 2]))
  key = after
end
return replies
