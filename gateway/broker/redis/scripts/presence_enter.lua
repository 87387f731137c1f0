-- Enters members into a channel.
-- KEYS[1] presence  hash: client id -> the lease of its node, a NUL, the length of the user, a colon, the user, and the
--                   message of its join without the head
-- KEYS[2] users     hash: user -> members of that user
-- KEYS[3] held      set: names of the channels of this partition that have members under this lease
-- KEYS[4] leaving   sorted set: users whose last member has left -> when to announce it
-- KEYS[5] farewells hash: the same users -> member limit for announcing it, a semicolon, the message without the head
-- ARGV    channel name, bus channel, lease and NUL, events ("", "clients", "users"), limit, head of a join,
--         then for each member: client, user, entry of `leaving`, message without the head
-- Returns how many joins were not announced because there are more members than the limit.
redis.call('SADD', KEYS[3], ARGV[1])
local untold = 0
for index = 7, #ARGV, 4 do
    local client, user, leaving, message = ARGV[index], ARGV[index + 1], ARGV[index + 2], ARGV[index + 3]
    if redis.call('HSET', KEYS[1], client, ARGV[3] .. #user .. ':' .. user .. message) == 1 then
        local first = redis.call('HINCRBY', KEYS[2], user, 1) == 1
        local told = ARGV[4] == 'clients'
        if ARGV[4] == 'users' and first then
            told = redis.call('ZREM', KEYS[4], leaving) == 0
            redis.call('HDEL', KEYS[5], leaving)
        end
        if told then
            if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[5]) then
                untold = untold + 1
            else
                redis.call('PUBLISH', ARGV[2], ARGV[6] .. message)
            end
        end
    end
end
return untold
