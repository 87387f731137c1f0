-- Publishes unless the idempotency key was used before.
-- KEYS[1] result key   "" (there is no position without history), expires after the window
-- ARGV    bus channel, message, window in seconds
-- Returns 1 when published now, the first publish's result when it had been published before, or the error of the
-- publish.
if not redis.call('SET', KEYS[1], '', 'NX', 'EX', ARGV[3]) then
    return first_result(KEYS[1])
end
-- The key is set first, since a server out of memory refuses that. It is deleted when the user of this connection may
-- not publish: otherwise a retry would be told that it had been published.
local sent = redis.pcall('PUBLISH', ARGV[1], ARGV[2])
if type(sent) == 'table' and sent.err then
    redis.call('DEL', KEYS[1])
    return sent
end
return 1
