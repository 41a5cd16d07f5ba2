-- Note that a message begins, if it is still held.
--
-- ARGV  1 held  2 tag  3 how it is held now  4 how it was held.
if redis.call('HGET', ARGV[1], ARGV[2]) ~= ARGV[4] then return 0 end
redis.call('HDEL', ARGV[1], ARGV[2])
redis.call('HSET', ARGV[1], ARGV[2], ARGV[3])
return 1
