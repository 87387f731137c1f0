"""What a run found: its timeline, the outcome, and the result with all of it, as it is written to JSON.

Imports `planning`, `counting`, `probes` and `text`."""
