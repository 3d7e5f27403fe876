from registered import Registered

from mec_gym.early_exit import PRESETS


def reward(parts):
    return -sum(
        parts[f"{part}_cost"] for part in ("accuracy", "latency", "miss", "delay", "energy")
    )


REGISTERED = {
    "mec/EarlyExitPartition-v2": Registered(
        default="mixed",
        horizon=100,
        drawn=2,
        left=10,
        own={"horizon": 4, "miss_weight": 2.0, "battery": 321.0},
        longer={"horizon": 110},
        reward=reward,
        slow_presets=frozenset(PRESETS),  # an online bound takes most of a minute
        slow_agents=frozenset({"price", "mincut"}),
    ),
}
