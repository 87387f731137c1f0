"""A load-test tool for WebSocket pub/sub backends: it speaks their protocols itself and accounts for every message.

A word for everything, in the order in which a run meets it:

- scenario: a kind of run, built in or from a file; plan: what one run is to do, in stages.
- wire: one connection's side of a protocol.
- mark: what every publication carries, by which it is found again.
- account: what became of the publications at a subscription.
- counters: whatever else a worker counts; a tick is what it counted in one second, counts are those of the run.
- probe: what reads a server, again and again, and at three checkpoints; record: what the readings of one showed.
- timeline: the stages and seconds of a run; a moment is one second of it.
- result: all figures of a run, in one file of JSON; the outcome is what they amount to, in one word.
- display, summary, report: the run as it goes on, and its result, in the terminal; the result as a page.
- comparison: two results, before and after a change.

What the folders hold and may import stands in their docstrings; a test checks it.
"""

__version__ = "0.1.0"
