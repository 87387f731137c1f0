"""One client: its state machine, its subscriptions, its deadlines. Driven by calls, does no I/O."""
