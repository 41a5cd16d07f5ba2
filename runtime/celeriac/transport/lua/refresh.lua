-- Let messages look as if they had just been taken, to those who go by the visibility timeout.
--
-- ARGV  1 index  2... tags.
local now = redis.call('TIME')
now = now[1] .. '.' .. string.format('%06d', now[2])
redis.call('ZREM', ARGV[1], '')  -- a full Redis lets a script go on that has written
for i = 2, #ARGV do redis.call('ZADD', ARGV[1], 'XX', now, ARGV[i]) end
