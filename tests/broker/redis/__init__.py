"""The Redis engine: names, links, faults."""
