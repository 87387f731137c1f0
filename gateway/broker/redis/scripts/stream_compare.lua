-- Compares the positions of streams of one partition with the expected ones.
-- KEYS    meta of each channel, as of stream_publish
-- ARGV    promotion, generation, then for each channel: epoch, offset, ttl of the meta (s)
-- Returns the numbers, from 1, of the channels whose position differs.
if is_stale(ARGV[1]) then
    return redis.error_reply('STALE the server was not the primary for a while')
end
local elsewhere = {}
for index, key in ipairs(KEYS) do
    local at = 3 * index
    local meta = redis.call('HMGET', key, 'e', 's')
    if not is_of(meta[1], ARGV[2]) then
        -- Nothing was published to it.
        if ARGV[at + 1] ~= '0' then
            elsewhere[#elsewhere + 1] = index
        end
    elseif meta[1] == ARGV[at] and meta[2] == ARGV[at + 1] then
        redis.call('EXPIRE', key, ARGV[at + 2])
    else
        elsewhere[#elsewhere + 1] = index
    end
end
return elsewhere
