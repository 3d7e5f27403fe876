"""Policy networks, shared by PPO, A3C and multi-task A3C.

A network maps inputs (B, D) to the outputs of a policy (B, N, K) and values (B,); see
:class:`agents.networks.parts.PolicyNetwork`.
"""

from __future__ import annotations

from collections.abc import Callable

from agents.heads import Head
from agents.networks.branches import BranchesNetwork
from agents.networks.distributions import Distribution, FusedCategorical, FusedGaussian, masked
from agents.networks.flat import FlatNetwork
from agents.networks.parts import PolicyNetwork
from agents.settings import NetworkOptions

__all__ = [
    "NETWORKS",
    "Distribution",
    "FusedCategorical",
    "FusedGaussian",
    "PolicyNetwork",
    "make_network",
    "masked",
]

# A head may offer further networks, see ``Head.networks``.
NETWORKS: dict[str, Callable[[Head, NetworkOptions], PolicyNetwork]] = {
    "flat": FlatNetwork,
    "branches": BranchesNetwork,
}


def make_network(name: str, head: Head, options: NetworkOptions | None = None) -> PolicyNetwork:
    """Make a new network, its parameters drawn from torch's global generator.

    Args:
        name: A key of ``NETWORKS`` or of ``head.networks``.
        head: The head that stands between the problem and the network.
        options: Width, sharing and so on; None for the defaults.

    Raises:
        ValueError: The name is unknown, the head does not offer a network of that name, or
            its outputs are of a kind that no network has.
    """
    offered = {**NETWORKS, **head.networks}
    if not isinstance(name, str) or name not in offered:
        raise ValueError(
            f"network must be one of {', '.join(offered)}, or with PPO mlp, for this head, "
            f"got {name!r}"
        )
    return offered[name](head, options or NetworkOptions())
