-- Reads the values of a channel. For one that nothing was published to, nothing is stored.
-- KEYS[1] meta, KEYS[2] values, KEYS[3] times   as of latest_publish
-- ARGV    generation, ttl (s), now (Unix ms), promotion
-- Returns {offset, epoch, {offset, body, ...}}, in no particular order.
if is_stale(ARGV[4]) then
    return redis.error_reply('STALE the server was not the primary for a while')
end
local meta = redis.call('HMGET', KEYS[1], 'e', 's')
local epoch, offset = meta[1], meta[2] or '0'
if not is_of(epoch, ARGV[1]) then
    return {'0', ARGV[1] .. '-' .. milliseconds(), {}}
end
local freed = forget(KEYS[2], KEYS[3], string.format('%.0f', tonumber(ARGV[3]) - tonumber(ARGV[2]) * 1000))
if freed > 0 then
    redis.call('HINCRBY', KEYS[1], 'b', -freed)
end
local found = {}
for _, value in ipairs(redis.call('HVALS', KEYS[2])) do
    local semicolon = string.find(value, ';', 1, true)
    found[#found + 1] = string.sub(value, 1, semicolon - 1)
    found[#found + 1] = string.sub(value, semicolon + 1)
end
return {offset, epoch, found}
