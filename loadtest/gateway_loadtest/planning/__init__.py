"""What a run is to do, and whether this machine allows it. All of it is decided before the first connection.

Imports no other part of the tool."""
