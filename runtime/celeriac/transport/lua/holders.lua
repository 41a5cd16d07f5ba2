-- Return all holders: for each its name, who that is, and whether its lease lasts.
--
-- ARGV  1 holders  2 prefix of the leases.
local found, leases = {}, {'MGET'}
local all = redis.call('HGETALL', ARGV[1])
if #all == 0 then return found end
for i = 1, #all, 2 do leases[#leases + 1] = ARGV[2] .. all[i] end
for number, lease in ipairs(redis.call(unpack(leases))) do
    found[#found + 1] = all[2 * number - 1]
    found[#found + 1] = all[2 * number]
    found[#found + 1] = lease and 1 or 0
end
return found
