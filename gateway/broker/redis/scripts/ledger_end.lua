-- Ends entries of a ledger: each becomes one event.
-- KEYS[1] ledger    hash: entry -> whose it is; "" -> the newest generation of its node's lease
-- KEYS[2] endings   stream: w whose, c code, r reason
-- KEYS[3] closed    set by another node that ends entries; absent when the node itself does
-- ARGV    events at most in the stream, generation of the lease that ends, seconds to keep KEYS[3],
--         then for each entry: its name, code, reason
-- Returns how many events were dropped, as there are too many; -1 when the node has a newer lease and lives.
local generation = tonumber(redis.call('HGET', KEYS[1], '') or '0')
if KEYS[3] and generation > tonumber(ARGV[2]) then
    return -1
end
local dropped, is_noted = 0, not KEYS[3]
for index = 4, #ARGV, 3 do
    local whose = redis.call('HGET', KEYS[1], ARGV[index])
    if whose then
        -- First, since it may be refused: then the entry is still there.
        dropped = dropped + append(KEYS[2], ARGV[1], 'w', whose, 'c', ARGV[index + 1], 'r', ARGV[index + 2])
        redis.call('HDEL', KEYS[1], ARGV[index])
        if not is_noted then
            redis.call('SET', KEYS[3], '1', 'EX', ARGV[3])
            is_noted = true
        end
    end
end
-- Here, since the node may live again at any moment.
if KEYS[3] and redis.call('HLEN', KEYS[1]) == redis.call('HEXISTS', KEYS[1], '') then
    redis.call('DEL', KEYS[1])
end
return dropped
