-- Prepended to every script that assigns or returns positions.
-- A server that was demoted and promoted again keeps its connections and may have lost publications in between: nodes
-- notice within a heartbeat, this check at once. `promotion` is what the node knows of the server: its master_replid2,
-- empty for none, or `-` for a server that loses nothing. Servers forget it after an hour without replicas.
local function is_stale(promotion)
    if promotion == '-' then
        return false
    end
    local known = string.match(redis.call('INFO', 'replication'), 'master_replid2:(%x+)') or ''
    return known ~= promotion and string.find(known, '[^0]') ~= nil
end
