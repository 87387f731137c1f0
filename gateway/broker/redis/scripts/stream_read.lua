-- Reads a channel's stream. For a channel that nothing was published to, nothing is stored: subscribing to
-- made-up names would otherwise fill the server.
-- KEYS[1] meta       hash: e epoch, s offset of the newest publication
-- KEYS[2] stream     entries OFFSET-0 with the field d, the body
-- ARGV    generation, meta ttl (s), limit (0: none, -1: all), offset to read from (empty: the start, or the end in
--         reverse), its epoch, 1 for reverse, bytes at most, promotion
-- Returns {offset, epoch, {offset, body, ...}}; no bodies when the epoch differs.
if is_stale(ARGV[8]) then
    return redis.error_reply('STALE the server was not the primary for a while')
end
local meta = redis.call('HMGET', KEYS[1], 'e', 's')
local epoch, offset = meta[1], meta[2] or '0'
if not is_of(epoch, ARGV[1]) then
    return {'0', ARGV[1] .. '-' .. milliseconds(), {}}
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
local found = {}
if ARGV[3] == '0' or not continues(ARGV[5], epoch, tonumber(ARGV[2])) then
    return {offset, epoch, found}
end
-- Redis rejects an interval that ends before 0-0.
if ARGV[6] == '1' and ARGV[4] == '0' then
    return {offset, epoch, found}
end
local command, from, to = 'XRANGE', '-', '+'
if ARGV[6] == '1' then
    command, from, to = 'XREVRANGE', '+', '-'
end
if ARGV[4] ~= '' then
    from = '(' .. ARGV[4] .. '-0'
end
local room = tonumber(ARGV[7])
local left = tonumber(ARGV[3])
-- In parts, so that a long stream of large publications is not copied only to be discarded.
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
