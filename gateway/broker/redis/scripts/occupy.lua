-- Writes how many subscriptions a node has to a channel.
-- KEYS[1] occupancy    hash: lease -> subscriptions
-- KEYS[2] occupied     sorted set, scores 0: names of channels that have an occupancy
-- ARGV    name, then pairs of lease and subscriptions (0: none any more)
for index = 2, #ARGV, 2 do
    if ARGV[index + 1] == '0' then
        redis.call('HDEL', KEYS[1], ARGV[index])
    else
        redis.call('HSET', KEYS[1], ARGV[index], ARGV[index + 1])
    end
end
if redis.call('EXISTS', KEYS[1]) == 1 then
    redis.call('ZADD', KEYS[2], 0, ARGV[1])
else
    redis.call('ZREM', KEYS[2], ARGV[1])
end
return redis.status_reply('OK')
