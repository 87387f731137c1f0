-- Publishes unless the idempotency key was used before.
-- KEYS[1] result key   "" (there is no position without history), expires after the window
-- ARGV    bus channel, message, window in seconds
-- Returns 1 when published now, 0 when it had been published before.
if not redis.call('SET', KEYS[1], '', 'NX', 'EX', ARGV[3]) then
    return 0
end
redis.call('PUBLISH', ARGV[1], ARGV[2])
return 1
