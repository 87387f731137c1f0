"""Whole clusters: several node processes, a Valkey between them, real clients."""
