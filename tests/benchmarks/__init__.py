"""`make bench`: what a delivery, a publish and a connection cost. CPU by the process's own accounting, as ratios."""
