"""Policy networks of N parallel choices, shared by PPO, A3C and multi-task A3C.

A network maps inputs (B, D) to logits (B, N, C) and values (B,); see
:class:`agents.networks.parts.PolicyNetwork`.
"""

from __future__ import annotations

from collections.abc import Callable

from agents.heads import Head
from agents.networks.branches import BranchesNetwork
from agents.networks.flat import FlatNetwork
from agents.networks.fused import FusedCategorical, masked
from agents.networks.pairs import PairsNetwork
from agents.networks.parts import PolicyNetwork
from agents.settings import NetworkOptions

__all__ = [
    "NETWORKS",
    "FusedCategorical",
    "PolicyNetwork",
    "make_network",
    "masked",
]

NETWORKS: dict[str, Callable[[Head, NetworkOptions], PolicyNetwork]] = {
    "flat": FlatNetwork,
    "branches": BranchesNetwork,
    "pairs": PairsNetwork,
}


def make_network(name: str, head: Head, options: NetworkOptions | None = None) -> PolicyNetwork:
    """A new network, its parameters drawn from torch's global generator.

    Args:
        name: One of ``NETWORKS``.
        head: Stands between the problem and the network.
        options: Width and sharing; the defaults if None.

    Raises:
        ValueError: Unknown name, or a problem whose actions are not N choices of equal size.
    """
    make = NETWORKS.get(name)
    if make is None:
        raise ValueError(f"network must be one of {', '.join(NETWORKS)}, got {name!r}")
    return make(head, options or NetworkOptions())
