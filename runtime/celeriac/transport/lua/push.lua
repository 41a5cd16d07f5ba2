-- Put a message into its list although Redis is full: it takes the place of one that ends.
--
-- ARGV  1 list  2 message  3 a key that is not there.
redis.call('DEL', ARGV[3])
return redis.call('LPUSH', ARGV[1], ARGV[2])
