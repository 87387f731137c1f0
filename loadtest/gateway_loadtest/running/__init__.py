"""The run itself: a coordinator, its workers (processes), and the clients and the schedule of publications in them.

Imports `planning`, `counting`, `wires`, `probes`, `results` and `text`."""
