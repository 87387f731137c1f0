-- Stores a revocation, joined with the one of the same tokens that is there: neither weakens the other.
-- KEYS[1] revoked   hash: which tokens -> the latest time of issue that is meant, a space, when it may be forgotten
--                   (both Unix s; 0: never)
-- ARGV    which tokens, the two times
local known = redis.call('HGET', KEYS[1], ARGV[1])
local before, forget = tonumber(ARGV[2]), tonumber(ARGV[3])
local known_before, known_forget = string.match(known or '', '^(%d+) (%d+)$')
if known_before then
    before = math.max(before, tonumber(known_before))
    known_forget = tonumber(known_forget)
    if forget == 0 or known_forget == 0 then
        forget = 0
    else
        forget = math.max(forget, known_forget)
    end
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f %.0f', before, forget))
return redis.status_reply('OK')
