"""The engine for any number of nodes: one Redis or Valkey between them."""
