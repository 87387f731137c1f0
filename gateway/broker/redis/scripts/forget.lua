-- Forgets revocations of tokens that have expired anyway, by the clock of Redis: a node's clock may be ahead.
-- KEYS[1] revoked   as in revoke.lua
-- ARGV    how long to keep them after expiry (s), which tokens (those not due yet are left)
local over = tonumber(redis.call('TIME')[1]) - tonumber(ARGV[1])
for number = 2, #ARGV do
    local expires = tonumber(string.match(redis.call('HGET', KEYS[1], ARGV[number]) or '', '^%d+ (%d+)$') or '0')
    if 0 < expires and expires <= over then
        redis.call('HDEL', KEYS[1], ARGV[number])
    end
end
return redis.status_reply('OK')
