"""Write the zoo's profiles anew: ``python -m mec_gym.dnn.zoo``. Needs torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mec_gym.dnn.graph import LayerGraph, save_graph
from mec_gym.dnn.zoo import NETWORKS, build


def fresh_profiles() -> dict[str, LayerGraph]:
    """Profiles for images of 224 x 224, with the final exit only and with all, by name."""
    import torch

    from mec_gym.dnn.profile import profile

    image = torch.empty(1, 3, 224, 224, device="meta")
    graphs = {}
    for network in NETWORKS:
        for name, exits in ((network, False), (f"{network}-exits", True)):
            with torch.device("meta"):
                module = build(network, exits=exits)
            graph = profile(module, image, name=name)
            origin = {**graph.provenance, "module": f"mec_gym.dnn.zoo.{network}.{network}"}
            graphs[name] = replace(graph, provenance=origin)
    return graphs


def main() -> None:
    """Write every profile beside the networks."""
    for name, graph in fresh_profiles().items():
        path = Path(__file__).parent / "profiles" / f"{name}.json"
        save_graph(path, graph)
        print(f"{path.name}: {len(graph)} layers, {graph.flops.sum() / 1e9:.3f} GFLOP")


if __name__ == "__main__":
    main()
