"""``python -m mec_gym.dnn.zoo``: count the networks anew and write their profiles.

Profiles with measured accuracies (``NAME-digits``) are made by ``mec-gym exits``.
"""

from __future__ import annotations

from pathlib import Path

import torch

from mec_gym.dnn.graph import save_graph
from mec_gym.dnn.profile import profile
from mec_gym.dnn.zoo import NETWORKS, build

FOLDER = Path(__file__).parent / "profiles"


def main() -> None:
    """Write ``NAME.json`` and ``NAME-exits.json`` of every network for images of 224 x 224."""
    frame = torch.zeros(1, 3, 224, 224)
    for name in NETWORKS:
        for exits in (False, True):
            title = f"{name}-exits" if exits else name
            graph = profile(build(name, exits=exits), frame, name=title)
            save_graph(FOLDER / f"{title}.json", graph)
            print(f"{title}: {len(graph)} layers, {graph.flops.sum() / 1e9:.3f} GFLOP")


if __name__ == "__main__":
    main()
