"""The policy networks as a policy of Stable-Baselines3."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import Distribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor

from agents.heads import Head
from agents.networks import PolicyNetwork, make_network
from agents.settings import NetworkOptions


class NetworkPolicy(ActorCriticPolicy):
    """A :class:`PolicyNetwork` in the place of SB3's actor-critic policy.

    All parts of an action are one fused distribution instead of N objects.

    Args:
        observation_space: The space of the network's inputs.
        action_space: The space of the head's outputs.
        lr_schedule: SB3's schedule of the learning rate.
        network: A key of ``agents.networks.NETWORKS`` or of ``head.networks``.
        head: The head that stands between environment and network.
        options: The options of the network.
        **kwargs: The optimiser's class and arguments, as SB3's policies take them.
    """

    network: PolicyNetwork

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Schedule,
        network: str,
        head: Head,
        options: NetworkOptions,
        **kwargs: Any,
    ) -> None:
        self._make = (network, head, options)
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        self.network = make_network(*self._make)
        self.optimizer = self.optimizer_class(
            self.network.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        network, head, options = self._make
        mine = {"network": network, "head": head, "options": options}
        return super()._get_constructor_parameters() | mine

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Choose actions (B, ...); return them, values (B, 1) and log-probabilities (B,)."""
        actions, outputs, values = self.network.choose(obs, greedy=deterministic)
        log_prob = self.network.distribution(outputs).joint_log_prob(actions)
        return self._shaped(actions), values.unsqueeze(-1), log_prob

    def keep(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, ...]:
        """Return what :meth:`evaluate_actions` needs to know of actions (B, ...) besides them.

        It stays the same while the policy learns; see :meth:`PolicyNetwork.keep`.
        """
        return self.network.keep(obs, self._parts(actions))

    def evaluate_actions(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return values (B, 1), log-probabilities (B,) and entropies (B,) of actions (B, ...).

        Args:
            obs: Observations, or what :meth:`keep` returned for them and the actions.
            actions: The actions.
        """
        kept = obs if isinstance(obs, tuple) else self.keep(obs, actions)
        outputs, values = self.network.from_kept(kept)
        chosen, actions = self.network.distribution(outputs), self._parts(actions)
        log_prob, entropy = chosen.joint_log_prob(actions), chosen.entropy().sum(dim=-1)
        return values.unsqueeze(-1), log_prob, entropy

    def predict_values(self, obs: PyTorchObs) -> Tensor:
        """Return the values, (B, 1)."""
        assert isinstance(obs, Tensor)
        return self.network(obs)[1].unsqueeze(-1)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        assert isinstance(observation, Tensor)
        with torch.no_grad():
            return self._shaped(self.network.choose(observation, greedy=deterministic)[0])

    def _parts(self, actions: Tensor) -> Tensor:
        """Return actions (B, ...) as the network has them, (B, N).

        SB3's buffer keeps every action as a float.
        """
        return actions.reshape(len(actions), -1).to(self.network.action_type)

    def _shaped(self, actions: Tensor) -> Tensor:
        """Return actions (B, N) in the shape of the space, (B, ...)."""
        return actions.reshape(-1, *(self.action_space.shape or ()))

    def get_distribution(self, obs: PyTorchObs) -> Distribution:
        """Raise NotImplementedError: the choices may depend on each other."""
        raise NotImplementedError("ask forward or evaluate_actions")
