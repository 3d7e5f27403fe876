from registered import Registered


def reward(parts):
    return -parts["latency_s"] / 180.0


OWN = {"horizon": 4, "handover_s": 7.0, "battery": 321.0}
LONGER = {"horizon": 35}
REGISTERED = {
    "mec/TrainingOffloadPaper-v0": Registered(
        default="paper", horizon=1, drawn=2, left=1, own=OWN, longer=LONGER,
        reward=reward, slow_presets=frozenset({"paper-literal", "paper-split"}),
    ),
    "mec/TrainingOffload-v0": Registered(
        default="drive", horizon=30, drawn=2, left=1, own=OWN, longer=LONGER, reward=reward,
        slow_presets=frozenset({"drive-ample", "drive-split", "drive-steady"}),
        slow_agents=frozenset({"price", "sparrow", "sparrow-textbook"}),
    ),
}  # fmt: skip
