-- Return the tags of messages that were taken a visibility timeout ago and are held by nobody: those of a worker without leases.
--
-- ARGV  1 index  2 visibility timeout in seconds  3 how many at most  4 holders  5 prefix of the held.
local now = redis.call('TIME')
local before = now[1] + now[2] / 1e6 - ARGV[2]
local holders = redis.call('HKEYS', ARGV[4])
local found = {}
for _, tag in ipairs(redis.call('ZRANGE', ARGV[1], '-inf', string.format('%.6f', before), 'BYSCORE', 'LIMIT', 0, ARGV[3])) do
    local free = true
    for _, holder in ipairs(holders) do
        free = free and redis.call('HEXISTS', ARGV[5] .. holder, tag) == 0
    end
    if free then found[#found + 1] = tag end
end
return found
