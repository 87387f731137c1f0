-- Forgets revocations of tokens that have expired by themselves, by the clock of Redis: that of one node may be ahead.
-- KEYS[1] revoked   as in revoke.lua
-- ARGV    for how long they are kept beyond that (s), which tokens (those that are not over are left)
local over = tonumber(redis.call('TIME')[1]) - tonumber(ARGV[1])
for number = 2, #ARGV do
    local expires = tonumber(string.match(redis.call('HGET', KEYS[1], ARGV[number]) or '', '^%d+ (%d+)$') or '0')
    if 0 < expires and expires <= over then
        redis.call('HDEL', KEYS[1], ARGV[number])
    end
end
return redis.status_reply('OK')
