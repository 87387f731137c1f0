-- Finds the generation of this server, the same for all nodes that ask.
-- KEYS[1] generation  hash: run (run id), promotion, name
-- ARGV    run id, the server's latest promotion (empty: none that it remembers), name of a new generation
-- Returns the name.
local known = redis.call('HMGET', KEYS[1], 'run', 'promotion', 'name')
-- A server forgets its promotion when it has had no replica for an hour. The data are replicated: a server that
-- took over finds another one's run id here.
if known[1] == ARGV[1] and (ARGV[2] == '' or ARGV[2] == known[2]) then
    return known[3]
end
redis.call('HSET', KEYS[1], 'run', ARGV[1], 'promotion', ARGV[2], 'name', ARGV[3])
return ARGV[3]
