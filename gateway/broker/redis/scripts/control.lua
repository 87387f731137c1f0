-- Sends a control message to all nodes, and keeps it for nodes that are cut off at this moment.
-- KEYS[1] control log   stream: the newest messages, in the field m
-- ARGV    bus channel, prefix of a message on the bus, the message, how many are kept
local id = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[4], '*', 'm', ARGV[3])
if type(id) == 'table' then
    -- Out of memory: connected nodes still get it.
    id = ''
end
redis.call('PUBLISH', ARGV[1], ARGV[2] .. id .. ' ' .. ARGV[3])
return redis.status_reply('OK')
