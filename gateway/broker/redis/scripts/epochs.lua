-- Prepended to the scripts that read or write positions. See epochs.py for the meaning of an epoch.
local function milliseconds()
    local now = redis.call('TIME')
    return string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000))
end
-- Whether a stored epoch belongs to a generation. A stream of another one may have lost publications, whose offsets
-- would be assigned again.
local function is_of(epoch, generation)
    return epoch and string.sub(epoch, 1, #generation) == generation
end
-- As epochs.continues; `ttl` in seconds.
local function continues(older, newer, ttl)
    if older == '' or older == newer then
        return true
    end
    local before, began = string.match(older, '^([^.-]+)-(%d+)$')
    local after, at = string.match(newer, '^([^.-]+)[.-](%d+)$')
    if not before or before ~= after then
        return false
    end
    local age = tonumber(at) - tonumber(began)
    return age >= 0 and age < ttl * 1000
end
