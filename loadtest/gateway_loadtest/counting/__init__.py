"""What is counted while a run goes on: marks in publications, accounts of subscriptions, counters and durations.

Imports no other part of the tool but `text`."""
