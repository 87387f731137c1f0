"""The protocols: one object a connection, bytes in and out, no I/O. `contract` states what each of them offers.

Imports `planning`."""
