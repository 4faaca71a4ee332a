-- acquire_alone: the common case of acquire, in front of it: one lock, without fencing, that is free and
-- for which nobody waits. To declare the functions below takes longer than this. Whatever else it is,
-- nothing is done here, and all of it is seen there.

if #KEYS == 2 and #ARGV == 2 and #ARGV[1] > 0 and #ARGV[2] < 16
  and redis.pcall('EXISTS', KEYS[2]) == 0 then
  local set = redis.pcall('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
  if set and set.ok then return 1 end
end

