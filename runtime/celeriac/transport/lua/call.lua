-- Call one of those who sleep.
--
-- ARGV  1 the sleepers  2 prefix of the keys by which they are called.
-- Returns whether there was one.
local sleeper = redis.call('ZPOPMIN', ARGV[1])[1]
if not sleeper then return 0 end
redis.call('SET', ARGV[2] .. sleeper, 1, 'PX', 1000)
return 1
