-- Replaces the value of a key of a channel, and publishes it.
-- KEYS[1] meta      hash: e epoch, s offset of the newest publication, b bytes that the values take
-- KEYS[2] values    hash: key -> "OFFSET;" and the body
-- KEYS[3] times     sorted set: key -> when it was published (Unix ms)
-- KEYS[4] result    "offset:epoch" of an idempotent publish, expires after the window; absent without a key
-- ARGV    bus channel, head of the message, body, generation, ttl (s), key, keys at most, bytes at most,
--         now (Unix ms), window (s), 1 to remove the value, promotion
-- Returns {offset, epoch}; offset 0 when the channel already has the most keys allowed, -1 when its values would exceed
-- the bytes allowed.
if is_stale(ARGV[12]) then
    return redis.error_reply('STALE the server was not the primary for a while')
end
-- The limit that refuses a value, if any. `bytes`: all values with it; `before`: the value it replaces, or 0.
local function obstacle(before, bytes)
    if before == 0 and redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[7]) then
        return '0'
    end
    return bytes > tonumber(ARGV[8]) and '-1'
end
local window = tonumber(ARGV[10])
local first = window > 0 and first_result(KEYS[4])
if first then
    return first
end
local meta = redis.call('HMGET', KEYS[1], 'e', 's', 'b')
local epoch, offset, bytes = meta[1], tonumber(meta[2] or '0'), tonumber(meta[3] or '0')
local key, ttl, is_removal = ARGV[6], tonumber(ARGV[5]), ARGV[11] == '1'
if not is_of(epoch, ARGV[4]) then
    epoch, offset, bytes = ARGV[4] .. '.' .. milliseconds(), 0, 0
    -- First a write that a server out of memory refuses: see stream_publish.
    redis.call('HSET', KEYS[1], 'e', epoch, 's', 0, 'b', 0)
    redis.call('EXPIRE', KEYS[1], ttl)
    redis.call('DEL', KEYS[2], KEYS[3])
elseif not is_removal then
    -- Likewise: the writes that make room below are never refused. A removal is allowed even then.
    redis.call('HSET', KEYS[1], 'e', epoch)
end
local text = string.format('%.0f', offset + 1)
local value = text .. ';' .. ARGV[3]
local before, after = taken(redis.call('HSTRLEN', KEYS[2], key), key), 0
if not is_removal then
    after = taken(#value, key)
    local full = obstacle(before, bytes - before + after)
    if full then
        local freed = forget(KEYS[2], KEYS[3], string.format('%.0f', tonumber(ARGV[9]) - ttl * 1000))
        if freed > 0 then
            bytes = bytes - freed
            redis.call('HSET', KEYS[1], 'b', bytes)
            before = taken(redis.call('HSTRLEN', KEYS[2], key), key)
            full = obstacle(before, bytes - before + after)
        end
        if full then
            return {full, epoch}
        end
    end
end
bytes = bytes - before + after
if is_removal then
    redis.call('HDEL', KEYS[2], key)
    redis.call('ZREM', KEYS[3], key)
else
    redis.call('HSET', KEYS[2], key, value)
    redis.call('ZADD', KEYS[3], ARGV[9], key)
end
redis.call('HSET', KEYS[1], 'e', epoch, 's', text, 'b', bytes)
-- All expire together, so that the bytes always match the values.
for index = 1, 3 do
    redis.call('EXPIRE', KEYS[index], ttl)
end
local sent = redis.pcall('PUBLISH', ARGV[1], ARGV[2] .. text .. ':' .. epoch .. ';' .. ARGV[3])
if type(sent) == 'table' and sent.err then
    return redis.error_reply('UNSENT ' .. sent.err)
end
if window > 0 then
    redis.call('SET', KEYS[4], text .. ':' .. epoch, 'EX', window)
end
return {text, epoch}
