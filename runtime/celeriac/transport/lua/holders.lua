-- Return all holders: for each its name, who that is, and whether its lease lasts.
--
-- ARGV  1 holders  2 prefix of the leases.
local found = {}
local all = redis.call('HGETALL', ARGV[1])
for i = 1, #all, 2 do
    found[#found + 1] = all[i]
    found[#found + 1] = all[i + 1]
    found[#found + 1] = redis.call('EXISTS', ARGV[2] .. all[i])
end
return found
