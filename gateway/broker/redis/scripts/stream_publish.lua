-- Appends a publication to a channel's stream and publishes it: one step, so that the order of offsets is the order of
-- delivery.
-- KEYS[1] meta       hash: e epoch, s offset of the newest publication, v and ve the newest version and its epoch
-- KEYS[2] stream     entries OFFSET-0 with the field d, the body
-- KEYS[3] result     "offset:epoch" of an idempotent publish, expires after the window; absent without a key
-- ARGV    bus channel, head of the message, body, generation, size, ttl (s), meta ttl (s), window (s),
--         version (0: none), version epoch, promotion
-- Returns {offset, epoch}.
if is_stale(ARGV[11]) then
    return redis.error_reply('STALE the server was not the primary for a while')
end
local window = tonumber(ARGV[8])
local first = window > 0 and first_result(KEYS[3])
if first then
    return first
end
local meta = redis.call('HMGET', KEYS[1], 'e', 's', 'v', 've')
local epoch, offset = meta[1], tonumber(meta[2] or '0')
if not is_of(epoch, ARGV[4]) then
    epoch, offset = ARGV[4] .. '.' .. milliseconds(), 0
    -- Begin with a write that a server out of memory refuses: after another kind, such as DEL, it lets all of them
    -- pass.
    redis.call('HSET', KEYS[1], 'e', epoch, 's', 0)
    redis.call('EXPIRE', KEYS[1], ARGV[7])
    redis.call('HDEL', KEYS[1], 'v', 've')
    redis.call('DEL', KEYS[2])
    meta = {}
end
local suppressed = ARGV[9] ~= '0' and meta[3] and meta[4] == ARGV[10] and tonumber(meta[3]) >= tonumber(ARGV[9])
local text = string.format('%.0f', suppressed and offset or offset + 1)
if not suppressed then
    -- First, since it may be refused: then no offset is used up.
    redis.call('XADD', KEYS[2], 'MAXLEN', ARGV[5], text .. '-0', 'd', ARGV[3])
    redis.call('HSET', KEYS[1], 's', text)
    if ARGV[9] ~= '0' then
        redis.call('HSET', KEYS[1], 'v', ARGV[9], 've', ARGV[10])
    end
    redis.call('EXPIRE', KEYS[2], ARGV[6])
    redis.call('EXPIRE', KEYS[1], ARGV[7])
end
if window > 0 then
    redis.call('SET', KEYS[3], text .. ':' .. epoch, 'EX', window)
end
if not suppressed then
    local sent = redis.pcall('PUBLISH', ARGV[1], ARGV[2] .. text .. ':' .. epoch .. ';' .. ARGV[3])
    if type(sent) == 'table' and sent.err then
        -- It stays in the stream, and its key stays set: removing it would leave a hole, or assign its offset again.
        return redis.error_reply('UNSENT ' .. sent.err)
    end
end
return {text, epoch}
