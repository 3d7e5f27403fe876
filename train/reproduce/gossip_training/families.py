"""The families of [Wang2023]'s tables 2 and 6 as protocols, and what publications say of them.

Each protocol is a :class:`~train.reproduce.gossip_training.play.Case`, and each row holds one
against another that differs in what the family changes only. Numbers in brackets, such as [79], are
references of [Wang2023].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mec_gym.gossip_training import Scenario
from train.reproduce.families.rows import Claim, Family
from train.reproduce.gossip_training.play import Case

SHARED = 57
"""Images that all devices hold in co-distillation: 5 % of the 1137 that there are to learn from."""
BIG_BITS = 320e6
"""A model ten times as large as the default."""
SLOW_RATE = 1.6e6
"""Links of a tenth of the default rate, bit/s."""
AS_GOOD = 0.1
"""What is only said to be as good may be worse by this share."""

_EQUAL = {"speed_spread": 0.0, "rate_spread": 0.0}
_LARGE = {**_EQUAL, "model_bits": BIG_BITS}
_IID = {"partition": "iid", "alpha": Scenario.alpha}  # which counts for nothing then
SETTINGS: dict[str, dict[str, Any]] = {
    "IID, equal": {**_IID, **_EQUAL},
    "IID, unequal": _IID,
    "skewed, equal": {"alpha": 0.01, **_EQUAL},
}
"""What devices hold, and whether they are equally fast; alpha is per class."""
POLICIES = {
    "matching": Case("matching"),
    "ring": Case("neighbours", {"graph": "ring"}),
    "rotation": Case("rotation"),
    "all-reduce": Case("all-reduce"),
    "periodic": Case("periodic"),
    "nobody": Case("nobody"),
}
"""Who listens to whom in all settings."""

_SLOW_LINKS = {**_IID, **_EQUAL, "rate": SLOW_RATE}
_SKEWED = {"alpha": 0.1, "privileged": True}
_TORUS = {"graph": "torus"}
_ONE_SIDED = {"graph": "one-sided"}
_PUSH = {"mixing": "push-sum"}
_SGP = {**_ONE_SIDED, **_PUSH}
_PAYLOADS = {
    "torus": Case("neighbours", _TORUS),
    "CHOCO, 10 %": Case("neighbours", {**_TORUS, "payload": "choco", "payload_share": 0.1}),
    "CHOCO, 1 %": Case(
        "neighbours",
        {**_TORUS, "payload": "choco", "payload_share": 0.01, "choco_step": 0.1},
    ),
    "matching": Case("matching"),
    "4 partners": Case("partners"),
    "segments": Case("partners", {"payload": "segments"}),
    "federated distillation": Case("neighbours", {"payload": "class-logits"}),
    "co-distillation": Case("neighbours", {"payload": "shared-logits", "shared": SHARED}),
}
PAYLOADS = tuple(_PAYLOADS)
"""What devices send, as pictures and tables call it."""


def setting_case(setting: str, policy: str) -> str:
    """Return the name of a policy's protocol in a setting."""
    return f"{setting}: {policy}"


def payload_case(payload: str, large: bool) -> str:
    """Return the name of the protocol in which equally fast devices send something.

    Args:
        payload: One of ``PAYLOADS``.
        large: Whether the model is ten times as large.
    """
    return f"{'large' if large else 'equal'}: {payload}"


def _with(case: Case, changes: Mapping[str, Any]) -> Case:
    return Case(case.rule, {**case.changes, **changes})


CASES: dict[str, Case] = {
    **_PAYLOADS,
    **{payload_case(p, False): _with(case, _EQUAL) for p, case in _PAYLOADS.items()},
    **{payload_case(p, True): _with(case, _LARGE) for p, case in _PAYLOADS.items()},
    **{
        setting_case(setting, policy): _with(case, changes)
        for setting, changes in SETTINGS.items()
        for policy, case in POLICIES.items()
    },
    # Who listens to whom.
    "nobody": Case("nobody"),
    "all-reduce": Case("all-reduce"),
    "periodic": Case("periodic"),
    "everybody": Case("neighbours"),
    "rotation": Case("rotation"),
    "ring": Case("neighbours", {"graph": "ring"}),
    "alike": Case("alike", {"privileged": True}),
    "unlike": Case("unlike", {"privileged": True}),
    "skewed: matching": Case("matching", _SKEWED),
    "skewed: alike": Case("alike", _SKEWED),
    "skewed: unlike": Case("unlike", _SKEWED),
    # One listens to another that need not listen to it.
    "trust": Case("neighbours", _ONE_SIDED),
    "trust, push-sum": Case("neighbours", _SGP),
    "drawn": Case("drawn"),
    "drawn, push-sum": Case("drawn", _PUSH),
    "SGP": Case("one-sided", _SGP),
    "SGP, overlap": Case("one-sided", {**_SGP, "overlap": True}),
    # Slow links between equal devices that hold images alike.
    "slow links: all-reduce": Case("all-reduce", _SLOW_LINKS),
    "slow links: matching": Case("matching", _SLOW_LINKS),
    "slow links: ring": Case("neighbours", {**_SLOW_LINKS, "graph": "ring"}),
    "slow links: SGP": Case("one-sided", {**_SLOW_LINKS, **_SGP}),
    "slow links: SGP, overlap": Case("one-sided", {**_SLOW_LINKS, **_SGP, "overlap": True}),
    # No logits: alone, and with the images that co-distillation needs.
    "equal: nobody": Case("nobody", _EQUAL),
    "equal, shared: nobody": Case("nobody", {**_EQUAL, "shared": SHARED}),
    "equal, shared: matching": Case("matching", {**_EQUAL, "shared": SHARED}),
    "shared: nobody": Case("nobody", {"shared": SHARED}),
}
"""All protocols by name."""

FAMILIES = (
    Family(2, "[68] [Luehr2016]", "all-reduce, not nobody", "all-reduce", "nobody"),
    Family(2, "[68] [Luehr2016]", "in every 4th round only", "periodic", "all-reduce"),
    Family(2, "[69-72] [Lian2018]", "a drawn partner, not nobody", "matching", "nobody"),
    Family(2, "[69-72] [Lian2018]", "... not an all-reduce", "matching", "all-reduce"),
    Family(2, "[69-72] [Lian2018]", "... not everybody", "matching", "everybody"),
    Family(2, "[73] [Daily2018]", "partners in turn, not drawn", "rotation", "matching"),
    Family(2, "[74] [Vanhaesebrouck2017]", "partners alike", "alike", "matching"),
    Family(2, "[74] [Vanhaesebrouck2017]", "partners unlike", "unlike", "matching"),
    Family(2, "[74] [Vanhaesebrouck2017]", "alpha 0.1: alike", "skewed: alike", "skewed: matching"),
    Family(
        2, "[74] [Vanhaesebrouck2017]", "alpha 0.1: unlike", "skewed: unlike", "skewed: matching"
    ),
    Family(2, "[75] [HeC2019]", "trust in 4 is one-sided", "trust", "torus"),
    Family(2, "[75] [HeC2019]", "... with push-sum", "trust, push-sum", "torus"),
    Family(2, "[76] [Colin2016]", "a torus, not a ring", "torus", "ring"),
    Family(2, "[76] [Colin2016]", "... not a drawn partner", "torus", "matching"),
    Family(2, "[77] [Nedic2016]", "drawn speakers, not partners", "drawn", "matching"),
    Family(2, "[77] [Nedic2016]", "... with push-sum, not without", "drawn, push-sum", "drawn"),
    Family(2, "[78] [Assran2019]", "one speaker in turn, push-sum", "SGP", "matching"),
    Family(2, "[78] [Assran2019]", "... and sending overlaps", "SGP, overlap", "SGP"),
    Family(
        2,
        "[78] [Assran2019]",
        "slow links: in turn, push-sum",
        "slow links: SGP",
        "slow links: matching",
    ),
    Family(
        2,
        "[78] [Assran2019]",
        "... and sending overlaps",
        "slow links: SGP, overlap",
        "slow links: SGP",
    ),
    Family(2, "[79] [Koloskova2019]", "10 % of changes", "CHOCO, 10 %", "torus"),
    Family(2, "[79] [Koloskova2019]", "1 % of changes", "CHOCO, 1 %", "torus"),
    Family(2, "[79] [Koloskova2019]", "equal: 10 %", "equal: CHOCO, 10 %", "equal: torus"),
    Family(2, "[79] [Koloskova2019]", "equal: 1 %", "equal: CHOCO, 1 %", "equal: torus"),
    Family(2, "[79] [Koloskova2019]", "large: 10 %", "large: CHOCO, 10 %", "large: torus"),
    Family(2, "[79] [Koloskova2019]", "large: 1 %", "large: CHOCO, 1 %", "large: torus"),
    Family(2, "[80] [HuC2019]", "4 segments, not 4 models", "segments", "4 partners"),
    Family(2, "[80] [HuC2019]", "equal: not 4 models", "equal: segments", "equal: 4 partners"),
    Family(2, "[80] [HuC2019]", "large: not 4 models", "large: segments", "large: 4 partners"),
    Family(2, "[80] [HuC2019]", "large: not 1 model", "large: segments", "large: matching"),
    Family(6, "[122] [Anil2018]", "logits, not nothing", "co-distillation", "shared: nobody"),
    Family(
        6,
        "[122] [Anil2018]",
        "equal: not nothing",
        "equal: co-distillation",
        "equal, shared: nobody",
    ),
    Family(
        6,
        "[122] [Anil2018]",
        "equal: not models",
        "equal: co-distillation",
        "equal, shared: matching",
    ),
    Family(6, "[122] [Anil2018]", "large: not models", "large: co-distillation", "large: matching"),
    Family(6, "[123] [Jeong2018]", "logits, not nothing", "federated distillation", "nobody"),
    Family(
        6,
        "[123] [Jeong2018]",
        "equal: not nothing",
        "equal: federated distillation",
        "equal: nobody",
    ),
    Family(
        6,
        "[123] [Jeong2018]",
        "equal: not models",
        "equal: federated distillation",
        "equal: matching",
    ),
    Family(
        6,
        "[123] [Jeong2018]",
        "large: not models",
        "large: federated distillation",
        "large: matching",
    ),
)
"""The rows of the tables that are redone."""

LEFT_OUT = {
    "[38], [119], [120], [121]": "why distillation works: nothing is decided against a clock",
    "[124]": "every device has a model of its own kind beside the common one",
    "[125], [126]": "how logits are coded for the channel",
}
"""References of the two tables that are not redone, and why."""

CLAIMS = (
    Claim(
        "[Lian2017]",
        "neighbours on a ring learn as much per round as an all-reduce",
        "rounds to 90 %", "IID, equal: ring", "IID, equal: all-reduce", AS_GOOD,
    ),
    Claim(
        "[Lian2017]",
        "... and are faster where links are slow",
        "s to 90 %", "slow links: ring", "slow links: all-reduce",
    ),
    Claim(
        "[Lian2018]",
        "drawn partners learn as much per round as an all-reduce",
        "rounds to 90 %", "IID, equal: matching", "IID, equal: all-reduce", AS_GOOD,
    ),
    Claim(
        "[Lian2018]",
        "... and are faster where some devices are slow",
        "s to 90 %", "IID, unequal: matching", "IID, unequal: all-reduce",
    ),
    Claim(
        "[Daily2018]",
        "partners in turn learn faster than drawn ones",
        "error", "rotation", "matching",
    ),
    Claim(
        "[Daily2018]",
        "... and learn as well as an all-reduce",
        "test error", "IID, equal: rotation", "IID, equal: all-reduce", AS_GOOD,
    ),
    Claim(
        "[HeC2019]",
        "one-sided trust with push-sum learns as well as mutual trust",
        "error", "trust, push-sum", "torus", AS_GOOD,
    ),
    Claim(
        "[Colin2016]",
        "devices agree faster on a better connected graph",
        "consensus", "torus", "ring",
    ),
    Claim(
        "[Nedic2016]",
        "push-sum helps where speakers have unlike numbers of listeners",
        "error", "drawn, push-sum", "drawn",
    ),
    Claim(
        "[Assran2019]",
        "stochastic gradient push is faster than an all-reduce where links are slow",
        "s to 90 %", "slow links: SGP", "slow links: all-reduce",
    ),
    Claim(
        "[Assran2019]",
        "... and faster still if sending overlaps",
        "s to 90 %", "slow links: SGP, overlap", "slow links: SGP",
    ),
    Claim(
        "[Koloskova2019]",
        "compressed differences need far fewer bits",
        "MB to 90 %", "equal: CHOCO, 10 %", "equal: torus",
    ),
    Claim(
        "[Koloskova2019]",
        "... and reach the same",
        "test error", "equal: CHOCO, 10 %", "equal: torus", AS_GOOD,
    ),
    Claim(
        "[HuC2019]",
        "segments shorten training",
        "s to 90 %", "large: segments", "large: 4 partners",
    ),
    Claim(
        "[Anil2018]",
        "models that teach each other need fewer rounds than alone",
        "rounds to 90 %", "equal: co-distillation", "equal, shared: nobody",
    ),
    Claim(
        "[Anil2018]",
        "... and are better in the end",
        "test error", "equal: co-distillation", "equal, shared: nobody",
    ),
    Claim(
        "[Jeong2018]",
        "distillation sends far fewer bits than models",
        "MB", "equal: federated distillation", "equal: matching",
    ),
    Claim(
        "[Jeong2018]",
        "... at some loss of accuracy",
        "test error", "equal: matching", "equal: federated distillation",
    ),
)  # fmt: skip
"""Orderings that publications report."""
