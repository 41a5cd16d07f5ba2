-- Be one of those who consume the same queues.
--
-- ARGV  1 the team  2 its sleepers  3 holder  4 seconds after which one that was not heard of is none.
-- Returns how many they are, and how many of them sleep.
local now = redis.call('TIME')[1]
redis.call('ZREMRANGEBYSCORE', ARGV[1], '-inf', now - ARGV[4])
redis.call('ZREMRANGEBYSCORE', ARGV[2], '-inf', now - ARGV[4])
redis.call('ZADD', ARGV[1], now, ARGV[3])
for i = 1, 2 do redis.call('EXPIRE', ARGV[i], 10 * ARGV[4]) end  -- of a team that is no more, nothing stays
return {redis.call('ZCARD', ARGV[1]), redis.call('ZCARD', ARGV[2])}
