-- Reads the members of a channel, unless they are too much for one answer.
-- KEYS[1] presence   as of presence_enter
-- ARGV    members at most, bytes of their entries at most (0: any number)
-- Returns the entries; -1 for too many members, -2 for too many bytes.
local most, room = tonumber(ARGV[1]), tonumber(ARGV[2])
if most > 0 and redis.call('HLEN', KEYS[1]) > most then
    return -1
end
local entries = redis.call('HVALS', KEYS[1])
if room > 0 then
    for _, entry in ipairs(entries) do
        room = room - #entry
    end
    if room < 0 then
        return -2
    end
end
return entries
