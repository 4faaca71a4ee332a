-- fence: raises the counters of a lock. It stands in front of acquire, wait and extend, which grant
-- and extend locks.
--
-- With fencing each lock key has a counter, and these are the last n of KEYS. It grows with each
-- change of the lock's owner, and lives on when the lock is over: for a week after its last use,
-- and for eight times the lock's TTL if that is more. The counters of one call all get the same
-- number.

-- Returns what a fence must be at least, or nil if that cannot be read from text: a client's clock
-- in microseconds, which is cut to the node's own and a day, or behind an equals sign a fence that
-- the lock has already. A server where TIME may not be used cuts nothing; one that replicates
-- scripts and not what they write has to be told to do otherwise before it lets a script use it.
local function least(text)
  local known, digits = string.match(text, '^(=?)(%d+)$')
  local number = tonumber(digits or '')
  if not number or number < 1 then return nil end
  if known == '=' then return number end
  if redis.replicate_commands then redis.replicate_commands() end
  local time = redis.pcall('TIME')
  if time.err then return number end
  return math.min(number, (tonumber(time[1]) + 86400) * 1e6 + tonumber(time[2]))
end

-- Gives the counters one number: at least the given one, more than what stands at those whose lock
-- key was granted just now, and no less than at the others. Returns the number as text. granted:
-- which of them, by index; nil: none, and a counter that is gone is made anew.
local function raise(n, number, ttl, granted)
  for i = 1, n do
    local value = redis.call('GET', KEYS[#KEYS - n + i])
    local stands = tonumber(string.match(value or '0', '^%d+$') or '')
    if not stands then
      error({err = 'ERR a fencing counter is not a number: somebody else uses its key'})
    elseif not value and granted and not granted[i] then
      error({err = 'ERR the fencing counter of a lock that is held is gone: '
        .. 'the server must not evict keys'})
    end
    number = math.max(number, granted and granted[i] and stands + 1 or stands)
  end
  if number >= 2 ^ 52 then
    error({err = 'ERR a fencing counter would reach 2^52: '
      .. 'a clock is wrong, and TIME cannot be used to see it'})
  end
  local agreed = string.format('%.0f', number)
  local retention = string.format('%.0f', math.max(604800000, 8 * ttl))
  for i = #KEYS - n + 1, #KEYS do redis.call('SET', KEYS[i], agreed, 'PX', retention) end
  return agreed
end

