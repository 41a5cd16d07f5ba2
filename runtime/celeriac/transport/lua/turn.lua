-- One turn of a consumer: acknowledge what has ended, take what comes next and note who has it, or be told when there is something.
--
-- KEYS  the lists, in the order in which they are to be looked at; or the key by which a sleeper is called.
-- ARGV  1 lease  2 unacked  3 index  4 held  5 number of this question  6 messages wanted at most  7 lists that are
--       not noted, as "1 4 "  8 the time  9 the holder, if it sleeps when there is nothing, or ''  10 the sleepers
--       11 whether the lists are to be watched at once, if that was all; of a sleeper: whether it was told, and only looks
--       whether it was called  12 the team  13 how many lists follow, for a sleeper  14... these lists, then tags to
--       acknowledge.
-- Returns for each message its list, the message, and its tag (false: not noted); then whether there is no more, and the
-- lists are watched. When all lists were empty: false, and the lists are watched; 0 if it sleeps; 1 if it was called, or
-- all others sleep: it is to ask again as one that watches.
--
-- What is watched is what a script declares, if it reads anything: hence a sleeper's lists, and all keys that are only
-- written, are in ARGV. What frees memory comes first: when it is full, Redis refuses the first command that needs some, but
-- lets a script go on that has written already.

-- From so many messages on, a queue is long enough to be taken from in batches: short ones are shared by those who wait.
local LONG = 32
-- So much of a message's end has its properties; what is before them may be long, and is not read.
local TAIL = 2048

local lists = KEYS
local first = 14 + ARGV[13]
if ARGV[9] ~= '' then
    lists = {}
    for i = 14, first - 1 do lists[#lists + 1] = ARGV[i] end
end
for i = first, #ARGV do
    if redis.call('HDEL', ARGV[4], ARGV[i]) == 1 then
        redis.call('ZREM', ARGV[3], ARGV[i])
        redis.call('HDEL', ARGV[2], ARGV[i])
    end
end
-- GETEX, for what only reads would be tracked, and each renewal would wake us up.
if not redis.call('GETEX', ARGV[1]) then
    return redis.error_reply('NOLEASE this process has no lease any more')
end

-- Inside of a JSON string a quote has a backslash before it: what looks like a name here is one.
local function read_end(message)
    local properties = string.match(string.sub(message, -TAIL), '.*"properties": {(.*)$')
    if not properties then return end
    local exchange, routing_key = string.match(properties, '"delivery_info": {"exchange": ("[^"\\]*"), "routing_key": ("[^"\\]*")')
    return string.match(properties, '"delivery_tag": "([^"\\]+)"'), exchange, routing_key
end

-- Nearly all of a long message is its body, in base64, and the rest is all that is asked for.
local function read_all(message)
    local from = '{"body": "'
    local to = string.sub(message, 1, #from) == from and string.find(message, '"', #from + 1, true)
    if to and string.sub(message, to - 1, to - 1) ~= '\\' then
        message = from .. string.sub(message, to)
    end
    local properties = cjson.decode(message).properties
    local to = properties.delivery_info
    return properties.delivery_tag .. '', cjson.encode(to.exchange), cjson.encode(to.routing_key)
end

local function read(message)
    local tag, exchange, routing_key = read_end(message)
    if tag and exchange then return tag, exchange, routing_key end
    local fine, tag, exchange, routing_key = pcall(read_all, message)
    if fine then return tag, exchange, routing_key end
end

-- Return a list that is not empty, and its next message.
local function pop()
    local command = {'LMPOP', #lists}
    for _, list in ipairs(lists) do command[#command + 1] = list end
    command[#command + 1] = 'RIGHT'
    local popped = redis.pcall(unpack(command))
    if not popped then return end
    if not popped.err then return popped[1], popped[2][1] end
    for _, list in ipairs(lists) do  -- Redis 6
        local message = redis.call('RPOP', list)
        if message then return list, message end
    end
end

local list, message
if ARGV[9] == '' or ARGV[11] == '0' then list, message = pop() end
if not list and ARGV[9] ~= '' then
    if redis.call('DEL', KEYS[1]) == 1 then return 1 end
    if redis.call('ZADD', ARGV[10], ARGV[8], ARGV[9]) == 1 and redis.call('ZCARD', ARGV[10]) >= redis.call('ZCARD', ARGV[12]) then
        redis.call('ZREM', ARGV[10], ARGV[9])
        return 1
    end
    redis.call('EXISTS', KEYS[1])
    return 0
elseif not list then
    redis.call('EXISTS', unpack(lists))
    return false
end
if ARGV[9] ~= '' then redis.call('ZREM', ARGV[10], ARGV[9]) end
local messages = {message}
local wanted = tonumber(ARGV[6])
if wanted > 1 and redis.call('LLEN', list) >= LONG then
    for _, more in ipairs(redis.call('RPOP', list, wanted - 1)) do messages[#messages + 1] = more end
end
local noted = true
for number in string.gmatch(ARGV[7], '%d+') do
    if lists[tonumber(number)] == list then noted = false end
end
local answer = {}
for number, message in ipairs(messages) do
    local tag, exchange, routing_key
    if noted then tag, exchange, routing_key = read(message) end
    if tag then
        redis.call('ZADD', ARGV[3], ARGV[8], tag)
        redis.call('HSET', ARGV[2], tag, '[' .. message .. ', ' .. exchange .. ', ' .. routing_key .. ']')
        redis.call('HSET', ARGV[4], tag, (ARGV[5] * 1000 + number) .. ' - ' .. list)
    end
    answer[#answer + 1] = list
    answer[#answer + 1] = message
    answer[#answer + 1] = tag or false
end
answer[#answer + 1] = ARGV[11] == '1' and redis.call('EXISTS', unpack(KEYS)) == 0
return answer
