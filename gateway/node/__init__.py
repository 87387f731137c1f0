"""A server process: its clients, its hub, and the broker that joins it with the other nodes."""
