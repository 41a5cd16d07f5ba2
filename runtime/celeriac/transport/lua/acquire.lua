-- Acquire a lease.
--
-- ARGV  1 lease  2 its milliseconds  3 holders  4 holder  5 who that is  6 held.
-- Returns the time.
-- In `held` the empty field says that nobody has taken anything away from this holder. DEL comes first: a full Redis refuses
-- what needs memory, unless the script has written something before.
redis.call('DEL', ARGV[1])
redis.call('SET', ARGV[1], 1, 'PX', ARGV[2])
redis.call('HSET', ARGV[3], ARGV[4], ARGV[5])
redis.call('HSET', ARGV[6], '', 1)
return redis.call('TIME')
