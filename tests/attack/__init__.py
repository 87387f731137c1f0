"""`make attack`: what one hostile client costs the others on a node."""
