-- Put a parked message back into its list, once, whoever else does the same.
--
-- ARGV  1 where it is parked  2 tag  3 list  4 message.
if redis.call('HDEL', ARGV[1], ARGV[2]) == 0 then return 0 end
redis.call('LPUSH', ARGV[3], ARGV[4])
return 1
