-- Announces the leave of a user who did not come back in time.
-- KEYS[1] users, KEYS[2] leaving, KEYS[3] farewells, KEYS[4] presence   as of presence_enter
-- ARGV    bus channel, head of a leave, entry of `leaving`, user, now (Unix ms)
-- Returns 1 when it was not announced because there are more members than the limit.
local due = redis.call('ZSCORE', KEYS[2], ARGV[3])
if not due or tonumber(due) > tonumber(ARGV[5]) then
    return 0
end
redis.call('ZREM', KEYS[2], ARGV[3])
local farewell = redis.call('HGET', KEYS[3], ARGV[3])
redis.call('HDEL', KEYS[3], ARGV[3])
if not farewell or redis.call('HEXISTS', KEYS[1], ARGV[4]) == 1 then
    return 0
end
local semicolon = string.find(farewell, ';', 1, true)
if redis.call('HLEN', KEYS[4]) > tonumber(string.sub(farewell, 1, semicolon - 1)) then
    return 1
end
redis.call('PUBLISH', ARGV[1], ARGV[2] .. string.sub(farewell, semicolon + 1))
return 0
