"""Distributed inference: speed of environments and learners, and how well they learn."""
