-- Writes how many subscriptions a node has to a channel.
-- KEYS[1] occupancy    hash: lease -> subscriptions
-- KEYS[2] occupied     sorted set, scores 0: names of channels that have an occupancy
-- KEYS[3] events       stream: o 1 for occupied or 0 for vacated, n name; absent if nobody wants to know
-- KEYS[4] watched      set: names of the channels that this lease occupies; as KEYS[3]
-- ARGV    name, events at most in the stream, then pairs of lease and subscriptions (0: none any more)
-- Returns how many events were dropped, as there are too many.
local was = redis.call('EXISTS', KEYS[1])
for index = 3, #ARGV, 2 do
    if ARGV[index + 1] == '0' then
        redis.call('HDEL', KEYS[1], ARGV[index])
    else
        redis.call('HSET', KEYS[1], ARGV[index], ARGV[index + 1])
    end
end
local is = redis.call('EXISTS', KEYS[1])
if is == 1 then
    redis.call('ZADD', KEYS[2], 0, ARGV[1])
else
    redis.call('ZREM', KEYS[2], ARGV[1])
end
if not KEYS[3] then
    return 0
end
redis.call(ARGV[4] == '0' and 'SREM' or 'SADD', KEYS[4], ARGV[1])
if is == was then
    return 0
end
return append(KEYS[3], ARGV[2], 'o', is, 'n', ARGV[1])
