-- release: deletes the keys of a request that hold its token and leaves all others alone.
--
-- KEYS   the lock keys of all requests, one request after the other
-- ARGV   for each request: number of its keys, token
-- reply  for each request
--          1                  all keys were ours and are deleted, or none was there: nothing of ours is left
--          {i}                some keys were ours and are deleted, but its i-th was gone
--          {i, owner, pttl}   the same, but its i-th key has another owner (pttl -1: for ever)
--          {text}             the error of the first command that failed; keys after that are untouched
--
-- Safe to repeat: all keys gone is what a second run finds after the first one's reply got lost.

local function release(first, last, token)
  local deleted, missing, foreign = 0, nil, nil
  for k = first, last do
    local owner = redis.pcall('GET', KEYS[k])
    if owner == token then
      local done = redis.pcall('DEL', KEYS[k])
      if type(done) == 'table' then return done end
      deleted = deleted + 1
    elseif not owner then
      missing = missing or {k - first + 1}
    else
      if type(owner) == 'table' then
        if string.sub(owner.err, 1, 9) ~= 'WRONGTYPE' then return owner end
        owner = '' -- not a string, and so not a lock of ours
      end
      local pttl = redis.pcall('PTTL', KEYS[k])
      foreign = foreign or {k - first + 1, owner, type(pttl) == 'number' and pttl or -1}
    end
  end
  return foreign or deleted > 0 and missing or 1
end

-- An error inside a list is more than go-redis can read in some versions, so its text has to do.
local function answer(reply)
  return type(reply) == 'table' and reply.err and {reply.err} or reply
end

-- What does not add up is refused as a whole, before anything has run.
local count = 0
for arg = 1, #ARGV, 2 do
  local n = tonumber(ARGV[arg]) or 0
  if n < 1 or n % 1 ~= 0 then return redis.error_reply('ERR bad number of keys') end
  count = count + n
end
if count ~= #KEYS or #ARGV % 2 ~= 0 then return redis.error_reply('ERR bad number of arguments') end

local replies, key = {}, 1
for arg = 1, #ARGV, 2 do
  local after = key + tonumber(ARGV[arg])
  replies[#replies + 1] = answer(release(key, after - 1, ARGV[arg + 1]))
  key = after
end
return replies
