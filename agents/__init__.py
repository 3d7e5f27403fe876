"""Agents and solvers: everything that plays a problem of mec_gym."""
