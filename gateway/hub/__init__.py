"""Local fan-out: from a publication to the sockets of this node."""
