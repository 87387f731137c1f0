-- Prepended to the scripts that append to a stream of events.
-- Returns how many did not fit: 0 or 1.
local function append(stream, most, ...)
    if redis.call('XLEN', stream) >= tonumber(most) then
        return 1
    end
    redis.call('XADD', stream, '*', ...)
    return 0
end
