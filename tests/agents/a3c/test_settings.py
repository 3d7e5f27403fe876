"""Settings of A3C: what is refused, and what its networks are told."""

import pytest

from agents.a3c.settings import A3CSettings
from agents.settings import NetworkOptions


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sharing": "no"}, "sharing .*hard, soft.*'no'"),
        ({"output": "two"}, "output .*branch, tied.*'two'"),
        ({"order": "random"}, "order .*sequential, together.*'random'"),
        ({"workers": 0}, "workers .*got 0"),
        ({"num_envs": 1.5}, r"num_envs .*got 1\.5"),
        ({"n_steps": True}, "n_steps .*got True"),
        ({"hidden": -1}, "hidden .*got -1"),
        ({"gamma": 1.1}, r"gamma .*\[0, 1\].*got 1\.1"),
        ({"gae_lambda": float("nan")}, "gae_lambda .*got nan"),
        ({"learning_rate": 0.0}, r"learning_rate .*got 0\.0"),
        ({"max_grad_norm": 0.0}, r"max_grad_norm .*got 0\.0"),
        ({"reward_scale": -1.0}, r"reward_scale .*got -1\.0"),
        ({"ent_coef": -0.1}, r"ent_coef .*got -0\.1"),
        ({"ent_coef_end": -0.1}, r"ent_coef_end .*got -0\.1"),
        ({"value_coef": -0.1}, r"value_coef .*got -0\.1"),
        ({"sharing_weight": -0.1}, r"sharing_weight .*got -0\.1"),
        ({"multi_task": 1}, "multi_task .*got 1"),
        ({"normalize": "no"}, "normalize .*'no'"),
        ({"num_envs": 1, "n_steps": 1}, "normalize .*= 1"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        A3CSettings(**changes)


def test_what_a_network_is_told():
    settings = A3CSettings(
        hidden=3, sharing="soft", output="tied", sharing_weight=0.2, order="together"
    )
    assert settings.options == NetworkOptions(
        hidden=3, sharing="soft", output="tied", sharing_weight=0.2, order="together"
    )
    assert A3CSettings(num_envs=3, n_steps=7).rollout == 21
