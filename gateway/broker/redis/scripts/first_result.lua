-- Prepended to every script that publishes with an idempotency key.
-- Returns {offset, epoch} of the first publish with the key, 0 and empty if it has no position; nil when there was
-- none within its window.
local function first_result(key)
    local known = redis.call('GET', key)
    if not known then
        return nil
    end
    local offset, epoch = string.match(known, '^(%d+):(.*)$')
    return {offset or '0', epoch or ''}
end
