from registered import Registered


def reward(parts):
    return -(parts["latency_s"] + parts["penalty"])


REGISTERED = {
    "mec/DistributedInference-v1": Registered(
        default="small",
        horizon=32,
        drawn=5 * 30,
        left=-1,
        own={"blocks": 2, "tasks": 2, "harvest": 0.3, "battery": 321.0},
        longer={"tasks": 5},
        reward=reward,
        slow_presets=frozenset({"campus", "city", "patent"}),
        slow_agents=frozenset({"deadline-descent", "coordinate-descent"}),
    ),
}
