-- Prepended to the scripts of latest values.
-- Bytes that a value takes besides its own and those of its key: its tags, its time, and the names of its fields in an
-- answer.
local OVERHEAD = 128
local function taken(length, key)
    return length > 0 and length + #key + OVERHEAD or 0
end
-- Forgets the values that are older than `before` (Unix ms); returns how many bytes they took.
local function forget(values, times, before)
    local freed = 0
    for _, key in ipairs(redis.call('ZRANGEBYSCORE', times, '-inf', '(' .. before)) do
        freed = freed + taken(redis.call('HSTRLEN', values, key), key)
        redis.call('HDEL', values, key)
        redis.call('ZREM', times, key)
    end
    return freed
end
