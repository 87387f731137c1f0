-- Sends a control message to all nodes, and keeps it for those whose link is cut at this moment.
-- KEYS[1] control log   stream: the newest messages, in the field m
-- ARGV    bus channel, what begins a message on the bus, the message, how many are kept
local id = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[4], '*', 'm', ARGV[3])
if type(id) == 'table' then
    -- Memory is out: those who listen get it all the same.
    id = ''
end
redis.call('PUBLISH', ARGV[1], ARGV[2] .. id .. ' ' .. ARGV[3])
return redis.status_reply('OK')
