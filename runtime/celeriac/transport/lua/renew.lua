-- Renew a lease.
--
-- ARGV  1 lease  2 its milliseconds  3 held.
-- Returns the time, or false if it is over. One that has run out goes on if nobody has taken anything from the holder: while Redis was
-- away, the leases of all have run out.
if redis.call('PEXPIRE', ARGV[1], ARGV[2]) == 1 then return redis.call('TIME') end
if redis.call('HEXISTS', ARGV[3], '') == 0 then return false end
redis.call('DEL', ARGV[1])
redis.call('SET', ARGV[1], 1, 'PX', ARGV[2])
return redis.call('TIME')
