-- A node has a new lease: others must not end entries for the old one any more.
-- KEYS[1] ledger, KEYS[2] closed   as of ledger_end
-- ARGV    generation of the new lease
-- Returns 1 if some were ended.
redis.call('HSET', KEYS[1], '', ARGV[1])
return redis.call('EXISTS', KEYS[2])
