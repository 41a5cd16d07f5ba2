-- Acknowledge what has ended.
--
-- ARGV  1 unacked  2 index  3... for each message: held, tag.
-- Returns how many were still held: what was given to somebody else meanwhile is that one's to acknowledge.
--
-- A script, for inside of MULTI a full Redis would refuse even what frees memory.
local done = 0
for i = 3, #ARGV, 2 do
    if redis.call('HDEL', ARGV[i], ARGV[i + 1]) == 1 then
        redis.call('ZREM', ARGV[2], ARGV[i + 1])
        redis.call('HDEL', ARGV[1], ARGV[i + 1])
        done = done + 1
    end
end
return done
