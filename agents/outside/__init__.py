"""Agents that were made elsewhere: models of the user's own scripts, and code of the user's own."""
