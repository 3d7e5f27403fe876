"""The roll-out that PPO passes over several times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor

CHUNK = 1024
"""Steps that are looked at together; memory is slow where there are many more."""


class KeptRollout(RolloutBuffer):
    """SB3's roll-out, with what the policy keeps in the place of observations.

    Attributes:
        keep: A function that returns what is kept, from observations (B, D) and actions (B, N);
            it is to be set before learning. See ``NetworkPolicy.keep``.
    """

    keep: Callable[[Tensor, Tensor], tuple[Tensor, ...]]

    def reset(self) -> None:
        """Begin a new roll-out."""
        super().reset()
        self._kept: tuple[Tensor, ...] = ()

    def _get_samples(self, batch_inds: npt.NDArray[Any], env: Any = None) -> RolloutBufferSamples:
        if not self._kept:  # by now the roll-out is complete and flat
            self._kept = self._keep_all()
            self.observations = np.empty((len(self.observations), 0), np.float32)
        samples = super()._get_samples(batch_inds, env)
        rows = torch.from_numpy(batch_inds)
        kept: Any = tuple(part.index_select(0, rows) for part in self._kept)
        return samples._replace(observations=kept)

    @torch.no_grad()
    def _keep_all(self) -> tuple[Tensor, ...]:
        whole = self.to_torch(self.observations), self.to_torch(self.actions)
        chunks = zip(*(torch.split(one, CHUNK) for one in whole), strict=True)
        parts = zip(*(self.keep(*chunk) for chunk in chunks), strict=True)
        return tuple(torch.cat(part) for part in parts)
