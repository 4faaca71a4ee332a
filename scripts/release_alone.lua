-- release_alone: the common case of release, in front of it: one lock, which is ours and was never
-- shortened, and for which nobody waits. See acquire_alone.

if #KEYS == 2 and #ARGV == 1 and ARGV[1] ~= '' and redis.pcall('GET', KEYS[1]) == ARGV[1]
  and redis.pcall('EXISTS', KEYS[2]) == 0 and redis.pcall('DEL', KEYS[1]) == 1 then
  return 1
end

