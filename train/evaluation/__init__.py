"""Evaluation: all agents play the same episodes and are measured against the bound."""

from train.evaluation.evaluate import Result, compare, evaluate, gap_percent

__all__ = ["Result", "compare", "evaluate", "gap_percent"]
