-- Replaces the value of a key of a channel, and publishes it.
-- KEYS[1] meta      hash: e epoch, s offset of the newest publication
-- KEYS[2] values    hash: key -> "OFFSET;" and the body
-- KEYS[3] result    "offset:epoch" of an idempotent publish, expires after the window; absent without a key
-- ARGV    bus channel, head of the message, body, generation, epoch to begin with, ttl (s), key, keys at most,
--         window (s), 1 to remove the value, promotion
-- Returns {offset, epoch}, with offset 0 when the channel has as many keys as it may have.
if is_stale(ARGV[11]) then
    return redis.error_reply('STALE the server was not the primary for a while')
end
local window = tonumber(ARGV[9])
local first = window > 0 and first_result(KEYS[3])
if first then
    return first
end
local meta = redis.call('HMGET', KEYS[1], 'e', 's')
local epoch, offset = meta[1], tonumber(meta[2] or '0')
-- An epoch of another generation may have lost values.
if not epoch or string.sub(epoch, 1, #ARGV[4]) ~= ARGV[4] then
    epoch, offset = ARGV[5], 0
    redis.call('DEL', KEYS[1], KEYS[2])
end
if ARGV[10] ~= '1' and redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[8])
    and redis.call('HEXISTS', KEYS[2], ARGV[7]) == 0 then
    return {'0', epoch}
end
local text = string.format('%.0f', offset + 1)
redis.call('HSET', KEYS[1], 'e', epoch, 's', text)
if ARGV[10] == '1' then
    redis.call('HDEL', KEYS[2], ARGV[7])
else
    redis.call('HSET', KEYS[2], ARGV[7], text .. ';' .. ARGV[3])
    redis.call('EXPIRE', KEYS[2], ARGV[6])
end
redis.call('EXPIRE', KEYS[1], ARGV[6])
local sent = redis.pcall('PUBLISH', ARGV[1], ARGV[2] .. text .. ':' .. epoch .. ';' .. ARGV[3])
if type(sent) == 'table' and sent.err then
    return redis.error_reply('UNSENT ' .. sent.err)
end
if window > 0 then
    redis.call('SET', KEYS[3], text .. ':' .. epoch, 'EX', window)
end
return {text, epoch}
