"""N choices of C places each, as one distribution.

Stable-Baselines3 makes N ``torch.distributions.Categorical`` objects a step, each of which
validates itself: 3.4 ms at N = 10. One log-softmax over (B, N, C) and Gumbel-max sampling
say the same.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

LEAST = torch.finfo(torch.float32).min
"""Logit of a place that must not be chosen; finite, so that nothing becomes NaN."""


def masked(logits: Tensor, allowed: Tensor) -> Tensor:
    """Logits that forbid places.

    Args:
        logits: (B, N, C).
        allowed: bool (B, N, C), at least one place of each choice.
    """
    return logits.masked_fill(~allowed, LEAST)


class FusedCategorical:
    """N independent choices among C places, pi(a|s) = product of pi_n(a_n|s).

    Nothing is validated. Places whose logit is ``LEAST`` or minus infinity are never drawn
    and add nothing to the entropy.

    Args:
        logits: (B, N, C), not normalised.
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    @cached_property
    def log_probs(self) -> Tensor:
        """Logarithms of all probabilities, (B, N, C), finite."""
        return torch.log_softmax(self.logits, dim=-1).clamp(min=LEAST)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw places, int64 (B, N).

        The largest of logit + Gumbel noise is distributed as the softmax of the logits
        (Gumbel-max). -log(E) is Gumbel distributed where E is exponentially distributed.
        """
        exponential = torch.empty_like(self.logits).exponential_(generator=generator)
        return (self.logits.detach() - exponential.log_()).argmax(dim=-1)

    def mode(self) -> Tensor:
        """The most likely places, int64 (B, N)."""
        return self.logits.argmax(dim=-1)

    def log_prob(self, places: Tensor) -> Tensor:
        """Each choice's log pi_n(a_n|s) of places (B, N), (B, N)."""
        return self.log_probs.gather(-1, places.unsqueeze(-1)).squeeze(-1)

    def joint_log_prob(self, places: Tensor) -> Tensor:
        """The sum over choices, log pi(a|s), of places (B, N), (B,)."""
        return self.log_prob(places).sum(dim=-1)

    def entropy(self) -> Tensor:
        """H(pi_n), (B, N); they add up to that of the joint distribution."""
        return -(self.log_probs.exp() * self.log_probs).sum(dim=-1)
