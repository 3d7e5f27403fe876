from registered import Registered


def reward(parts):
    return -parts["cost_s"] / 4000.0


OWN = {
    "clients": 6,
    "at_once": 3,
    "quorum": 1,
    "local_steps": 2,
    "batch": 4,
    "hidden": 4,
    "bin_s": 100.0,
    "decisions": 4,
}

REGISTERED = {
    "mec/FederatedTraining-v0": Registered(
        default="semi-async",
        horizon=500,
        drawn=range(6),  # the times that jobs would compute, which stay during an episode
        left=-1,
        own=OWN,
        # The budget of the default ends before its decisions do; this one's does not.
        longer={**OWN, "at_once": 1, "decisions": 501, "budget_s": 1e6, "bin_s": 1e4},
        to_the_end=OWN,
        positive="model_bits",
        reward=reward,
        slow_presets=frozenset({"tiny"}),
        large_presets=frozenset(
            {"semi-async", "sync", "async", "iid", "churn", "hours", "drift", "growing"}
        ),
    ),
}
