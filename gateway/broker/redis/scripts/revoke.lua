-- Stores a revocation, merged with a stored one of the same tokens so that neither weakens the other.
-- KEYS[1] revoked   hash: which tokens -> issued before which time, a space, when they expire anyway
--                   (both Unix s; 0: never)
-- ARGV    which tokens, the two times, and seconds from now until which tokens are covered at least, as the requesting
--         node's clock may be behind (empty: as it says, for one that was stored before)
-- Returns the two times now in force.
local known = redis.call('HGET', KEYS[1], ARGV[1])
local before, expires = tonumber(ARGV[2]), tonumber(ARGV[3])
local known_before, known_expires = string.match(known or '', '^(%d+) (%d+)$')
if ARGV[4] ~= '' then
    -- The stored time may be the iat of a token that was signed since: it has to be refused now.
    before = math.max(before, redis.call('TIME')[1] + ARGV[4], (known_before or -1) + 1)
end
if known_before then
    before = math.max(before, tonumber(known_before))
    known_expires = tonumber(known_expires)
    if expires == 0 or known_expires == 0 then
        expires = 0
    else
        expires = math.max(expires, known_expires)
    end
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %.0f', before, expires))
return {before, expires}
