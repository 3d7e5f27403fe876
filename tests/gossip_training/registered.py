from registered import Registered


def reward(parts):
    return -parts["error_s"] / 2000.0


OWN = {"devices": 5, "local_steps": 2, "batch": 4, "hidden": 4, "rounds": 4}

REGISTERED = {
    "mec/GossipTraining-v0": Registered(
        default="unequal",
        horizon=400,
        drawn=range(5),  # the times that devices train
        left=-1,
        own=OWN,
        # The budget of the default ends before its rounds do; this one's does not.
        longer={**OWN, "rounds": 401, "budget_s": 1e6},
        to_the_end=OWN,
        positive="model_bits",
        reward=reward,
        slow_presets=frozenset({"tiny"}),
        large_presets=frozenset({"ring", "complete", "unequal"}),
    ),
}
