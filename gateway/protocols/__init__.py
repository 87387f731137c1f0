"""Wire protocols: pure functions between bytes and messages. Siblings; none knows another."""
