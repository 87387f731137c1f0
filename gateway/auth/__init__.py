"""Who a client is and what it may do: tokens, permissions, rate limits, origins. Decides; knows no socket."""
