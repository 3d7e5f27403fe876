"""How good is an agent? Identical episodes for all, measured against the bound."""

from train.evaluation.evaluate import Result, compare, evaluate, gap_percent

__all__ = ["Result", "compare", "evaluate", "gap_percent"]
