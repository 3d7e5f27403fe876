"""Redo figures 6, 7 and 11 to 17 of seed 001 (DAPDEE) in a steady state.

The seed is available as its abstract, algorithms and captions: figures have names, not
numbers. Two sets of numbers are published. DADS (Hu et al., INFOCOM 2019), on which the seed
builds, gives for ResNet18 the speed-up over device-only in each of four networks; the seed's
abstract gives the largest over CAT1, 3G and 4G for VGG16 and AlexNet.

What is ours, because the sources do not print it:

* Devices: a Raspberry Pi 4 and a desktop-class edge server as rooflines, see
  ``mec_gym.dnn.devices``. And the same with a Raspberry Pi 3 B+, 1.6 times slower: in ncnn's list
  of benchmarks (benchmark/README.md of Tencent/ncnn, four threads) ResNet18 takes 281.43 ms on it
  and 176.18 ms on the 4 B, AlexNet 222.01 and 143.52 ms.
* What is sent if all is left to the edge: the network's input as it stands, 32 bit a value. And
  variants: 8 bit a value, as cameras give them, and JPEG at 10 : 1 of that, a customary rate,
  for images of 224 x 224; one of 32 x 32 is too small to gain. Coding costs no time here and
  no accuracy.
* VGG16 and AlexNet answer for scikit-learn's digits, enlarged to 32 x 32, not for CIFAR-10. Their
  exits' accuracies are measured, see the profiles' provenance.
* Requirements and bandwidths of figures 6, 7 and 11 to 13: ranges that show all that happens.

Nothing is tuned to come near the published figures.
"""

from __future__ import annotations

from mec_gym.dnn.zoo import load_profile
from train.config import ReproduceRun
from train.reproduce import Findings
from train.reproduce.early_exit import pictures
from train.reproduce.early_exit.comparison import (
    DADS_NETWORK,
    NETWORKS,
    TITLES,
    comparisons,
    priced,
)
from train.reproduce.early_exit.tables import dads_table, dapdee_table, exits_table, remark

PICTURES = (
    "figure_6.png",
    "figure_7.png",
    *(f"figure_{n}.png" for n in range(11, 18)),
    "published.png",
)
TABLES = ()


def compute(run: ReproduceRun) -> Findings:
    """All figures and tables.

    Args:
        run: Counts for nothing: nothing is random.
    """
    graphs = {name: load_profile(name) for name in NETWORKS}
    networks = {name: priced(graph) for name, graph in graphs.items()}
    rows = [row for name, graph in graphs.items() for row in comparisons(name, graph)]
    with_exits = {TITLES[n]: network for n, network in networks.items() if n != DADS_NETWORK}
    drawn = {
        "figure_6.png": pictures.partitions_by_requirement(with_exits),
        "figure_7.png": pictures.partitions_by_bandwidth(with_exits),
        "figure_11.png": pictures.by_requirement(with_exits, "accuracy"),
        "figure_12.png": pictures.by_requirement(with_exits, "latency"),
        "figure_13.png": pictures.by_requirement(with_exits, "throughput"),
        "figure_14.png": pictures.gains(rows, "light", "latency"),
        "figure_15.png": pictures.gains(rows, "light", "throughput"),
        "figure_16.png": pictures.gains(rows, "heavy", "latency"),
        "figure_17.png": pictures.gains(rows, "heavy", "throughput"),
        "published.png": pictures.beside_published(rows),
    }
    tables = [dads_table(rows), dapdee_table(rows), exits_table(networks)]
    return Findings(rows, tables, remark(networks, rows), drawn)
