"""Agents, heads and networks for distributed inference."""
