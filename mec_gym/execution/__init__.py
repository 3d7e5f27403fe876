"""Partitions executed for real: two processes, a shaped link, and what the simulator says of it."""
