"""The HTTP API: what backends and operators ask of the cluster."""
