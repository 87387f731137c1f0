"""`make conformance`: the Autobahn test suite, which is of Python 2.7, against our server."""
