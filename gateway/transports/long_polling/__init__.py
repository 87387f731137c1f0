"""Long polling: the answers to a client's requests carry what it gets.

May import what its parent package may.
"""
