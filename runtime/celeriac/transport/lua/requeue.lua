-- Requeue what a holder has, or park it.
--
-- ARGV  1 unacked  2 index  3 prefix of the held  4 holders  5 holder  6 its lease, which must be gone; '' for one's own
--       7... for each message: tag, command, key, message. The command is LPUSH, RPUSH, HSET (under the tag) or '' (only forget it).
-- Returns how many were still held by it; -1 if the holder lives.
--
-- A message is taken away before it is put back: then a full Redis does not refuse that, and two who requeue the same
-- message cannot do it twice.
local held = ARGV[3] .. ARGV[5]
if ARGV[6] ~= '' then
    if redis.call('EXISTS', ARGV[6]) == 1 then return -1 end
    redis.call('HDEL', held, '')  -- from now on the holder cannot go on
end
local holders = redis.call('HKEYS', ARGV[4])

-- A worker without leases may have given the message out again after the visibility timeout: then it is that holder's.
local function is_held_by_another(tag)
    for _, holder in ipairs(holders) do
        if holder ~= ARGV[5] and redis.call('HEXISTS', ARGV[3] .. holder, tag) == 1 then return true end
    end
    return false
end

local given = 0
for i = 7, #ARGV, 4 do
    local tag, command, key, message = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    if redis.call('HDEL', held, tag) == 1 then
        given = given + 1
        if not is_held_by_another(tag) then
            redis.call('ZREM', ARGV[2], tag)
            redis.call('HDEL', ARGV[1], tag)
            if command == 'HSET' then
                redis.call('HSET', key, tag, message)
            elseif command ~= '' then
                redis.call(command, key, message)
            end
        end
    end
end
if ARGV[6] ~= '' and redis.call('EXISTS', held) == 0 then redis.call('HDEL', ARGV[4], ARGV[5]) end
return given
