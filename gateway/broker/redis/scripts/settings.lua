-- Writes the settings of a node for publishers, unless those of another node count.
-- Those count that came into force last, of the nodes that live. The number says which: it grows with every start and
-- every reload.
-- KEYS[1] settings  hash: number, by (node), renewed (Unix ms), digest, document
-- ARGV    node, number (0: these settings are new), seconds without a renewal after which a node is gone, digest,
--         document
-- Returns the number of the node's settings.
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local known = redis.call('HMGET', KEYS[1], 'number', 'by', 'renewed')
local last, mine = tonumber(known[1] or '0'), tonumber(ARGV[2])
if mine == 0 then
    -- The time, because a server that has lost the last number would count from the beginning.
    mine = math.max(now, last + 1)
end
-- A renewal of the future is one of before the clock of the server was set back.
local is_gone = math.abs(now - tonumber(known[3] or '0')) > ARGV[3] * 1000
if mine == last and known[2] == ARGV[1] then
    redis.call('HSET', KEYS[1], 'renewed', string.format('%.0f', now))
elseif mine > last or is_gone then
    redis.call('HSET', KEYS[1], 'number', string.format('%.0f', mine), 'by', ARGV[1],
        'renewed', string.format('%.0f', now), 'digest', ARGV[4], 'document', ARGV[5])
end
return string.format('%.0f', mine)
