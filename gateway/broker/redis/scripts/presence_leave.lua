-- Takes members out of a channel.
-- KEYS    as of presence_enter
-- ARGV    channel name, bus channel, lease and NUL, events ("", "clients", "users"), limit, head of a leave,
--         1 when the lease has no other members in the channel, when to announce a user's leave (Unix ms; 0: now),
--         then for each member: client, user, entry of `leaving`, message without the head
-- Returns how many leaves were not announced because there were more members than the limit.
if ARGV[7] == '1' then
    redis.call('SREM', KEYS[3], ARGV[1])
end
local untold = 0
for index = 9, #ARGV, 4 do
    local client, user, leaving, message = ARGV[index], ARGV[index + 1], ARGV[index + 2], ARGV[index + 3]
    local entry = redis.call('HGET', KEYS[1], client)
    -- Only once: a second call finds nothing, or the entry of another lease.
    if entry and string.sub(entry, 1, #ARGV[3]) == ARGV[3] then
        local members = redis.call('HLEN', KEYS[1])
        redis.call('HDEL', KEYS[1], client)
        local last = redis.call('HINCRBY', KEYS[2], user, -1) <= 0
        if last then
            redis.call('HDEL', KEYS[2], user)
        end
        local told = ARGV[4] == 'clients'
        if ARGV[4] == 'users' and last then
            if ARGV[8] == '0' then
                told = true
            else
                redis.call('ZADD', KEYS[4], ARGV[8], leaving)
                redis.call('HSET', KEYS[5], leaving, ARGV[5] .. ';' .. message)
            end
        end
        if told then
            if members > tonumber(ARGV[5]) then
                untold = untold + 1
            else
                redis.call('PUBLISH', ARGV[2], ARGV[6] .. message)
            end
        end
    end
end
return untold
