"""Redo published figures of pipeline training."""
