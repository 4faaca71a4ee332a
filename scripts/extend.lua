-- extend: gives every key a new time to live, if all of them hold the token.
--
-- KEYS   the lock keys
-- ARGV   token, time to live in milliseconds, "exactly" or "at least"
-- reply  1                  every key is ours and lives that long
--        {i}                KEYS[i] is gone; nothing was changed
--        {i, owner, pttl}   KEYS[i] has another owner; nothing was changed
--
-- "at least" never shortens, so that a run that comes late does no harm. A key that is gone stays gone.

local token, ttl, mode = ARGV[1], ARGV[2], ARGV[3]

for i, key in ipairs(KEYS) do
  local owner = redis.call('GET', key)
  if not owner then
    return {i}
  elseif owner ~= token then
    return {i, owner, redis.call('PTTL', key)}
  end
end

for _, key in ipairs(KEYS) do
  if mode == 'exactly' or redis.call('PTTL', key) < tonumber(ttl) then
    redis.call('PEXPIRE', key, ttl)
  end
end
return 1
