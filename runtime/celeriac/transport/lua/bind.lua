-- Note that a queue is bound although Redis is full: a worker must be able to start then, or nobody would empty it.
--
-- ARGV  1 member  2 a key that is not there  3... sets.
redis.call('DEL', ARGV[2])
for i = 3, #ARGV do redis.call('SADD', ARGV[i], ARGV[1]) end
