-- acquire_alone: the common case of acquire, in front of it: one lock, without fencing, that is
-- free and for which nobody waits. To declare the functions below takes longer than this. In all
-- other cases nothing is done here, and the rest of the script sees to it.

if #KEYS == 2 and #ARGV == 2 and #ARGV[1] > 0 and #ARGV[2] < 16
  and redis.pcall('EXISTS', KEYS[2]) == 0 then
  local set = redis.pcall('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2])
  if set and set.ok then return 1 end
end

