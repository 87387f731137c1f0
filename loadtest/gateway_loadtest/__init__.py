"""A load-test tool for WebSocket pub/sub backends: it speaks their protocols itself and accounts for every message.

A word for everything, in the order in which a run meets it:

- plan: what a run is to do.
- wire: one connection's side of a protocol.
- mark: what every publication carries, by which it is found again.
- account: what became of the publications at a subscription.
- counters: whatever else a worker counts; a tick is what it counted in one second, counts are those of the run.
- record: what one server, read by a probe, showed over the run.
- timeline: the stages and seconds of a run; a moment is one second of it.
- result: all that a run found, in one file of JSON; the outcome is what it amounts to, in one word.
- display, summary, report: the run as it goes on, and its result, in the terminal; the result as a page.
- comparison: two results, before and after a change.

The folders and what they may import stand in their docstrings; a test checks them.
"""

__version__ = "0.1.0"
