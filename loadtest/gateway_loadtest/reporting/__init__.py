"""What is shown: the display during a run; then summary, report with plots, comparison of results, and capacity.

Imports `planning`, `results` and `text`."""
