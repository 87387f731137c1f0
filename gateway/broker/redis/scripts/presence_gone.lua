-- Tells that a user has left who did not come back in time.
-- KEYS[1] users, KEYS[2] leaving, KEYS[3] farewells   as of presence_enter
-- ARGV    bus channel, head of a leave, entry of `leaving`, user, now (Unix ms)
-- Returns 1 when it was told by this call.
local due = redis.call('ZSCORE', KEYS[2], ARGV[3])
if not due or tonumber(due) > tonumber(ARGV[5]) then
    return 0
end
redis.call('ZREM', KEYS[2], ARGV[3])
local message = redis.call('HGET', KEYS[3], ARGV[3])
redis.call('HDEL', KEYS[3], ARGV[3])
if not message or redis.call('HEXISTS', KEYS[1], ARGV[4]) == 1 then
    return 0
end
redis.call('PUBLISH', ARGV[1], ARGV[2] .. message)
return 1
