-- Reads a channel's stream, and begins one where there is none.
-- KEYS[1] meta       hash: e epoch, s offset of the newest publication
-- KEYS[2] stream     entries OFFSET-0 with the field d, the body
-- ARGV    generation, epoch to begin with, meta ttl (s), ttl of a position that nothing was published to (s),
--         limit (0: none, -1: all), offset to read from (empty: the start, or the end in reverse), its epoch,
--         1 for reverse, bytes at most, promotion
-- Returns {offset, epoch, {offset, body, ...}}; no bodies when the epoch is another one.
if is_stale(ARGV[10]) then
    return redis.error_reply('STALE the server was not the primary for a while')
end
local meta = redis.call('HMGET', KEYS[1], 'e', 's')
local epoch, offset = meta[1], meta[2] or '0'
-- An epoch of another generation may have lost publications, whose offsets would be given out again.
if not epoch or string.sub(epoch, 1, #ARGV[1]) ~= ARGV[1] then
    epoch, offset = ARGV[2], '0'
    redis.call('DEL', KEYS[1], KEYS[2])
    redis.call('HSET', KEYS[1], 'e', epoch)
end
redis.call('EXPIRE', KEYS[1], offset == '0' and ARGV[4] or ARGV[3])
local found = {}
if ARGV[5] == '0' or offset == '0' or (ARGV[7] ~= '' and ARGV[7] ~= epoch) then
    return {offset, epoch, found}
end
-- Redis takes an interval that ends before 0-0 for an error.
if ARGV[8] == '1' and ARGV[6] == '0' then
    return {offset, epoch, found}
end
local command, from, to = 'XRANGE', '-', '+'
if ARGV[8] == '1' then
    command, from, to = 'XREVRANGE', '+', '-'
end
if ARGV[6] ~= '' then
    from = '(' .. ARGV[6] .. '-0'
end
local room = tonumber(ARGV[9])
local left = tonumber(ARGV[5])
-- In parts, so that a long stream of large publications is not copied to be thrown away.
while left ~= 0 do
    local part = 100
    if left > 0 and left < part then
        part = left
    end
    local entries = redis.call(command, KEYS[2], from, to, 'COUNT', part)
    for _, entry in ipairs(entries) do
        room = room - #entry[2][2]
        if room < 0 then
            return {offset, epoch, found}
        end
        found[#found + 1] = string.sub(entry[1], 1, -3)
        found[#found + 1] = entry[2][2]
        from = '(' .. entry[1]
    end
    if #entries < part then
        break
    end
    if left > 0 then
        left = left - part
    end
end
return {offset, epoch, found}
