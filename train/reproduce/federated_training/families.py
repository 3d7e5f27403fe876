"""The families of [Wang2023]'s tables 1, 3 and 4 as protocols, and what publications say of them.

Each protocol is a :class:`~train.reproduce.federated_training.play.Case`, and each row holds one
against another that differs in the mechanism only. Numbers in brackets, such as [58], are
references of [Wang2023].
"""

from __future__ import annotations

from train.reproduce.families.rows import Claim, Family
from train.reproduce.federated_training.play import Case

ROWS = 10
"""Clients that train at once, m."""
SHARED = 57
"""Images that all clients share: 5 % of the 1137 that there are to learn from."""
DEADLINE_S = 60.0
SKEWS = (10.0, 1.0, 0.3, 0.1, 0.03)
"""The alphas of the picture of skew, per class."""
QUORUMS = (1, 2, 3, 5, 7, 10)
STEPS = (1, 5, 10, 20)
BIG_BITS = 320e6
"""A model ten times as large as the default."""

# Synchronous: the server waits for all that it has sent off.
_SYNC = {"quorum": ROWS, "late": "drop"}
# Equally fast clients: only what is learnt differs, not when.
_EQUAL = {**_SYNC, "speed_spread": 0.0, "rate_spread": 0.0}
_EACH = {"quorum": 1}
_MIX = {"quorum": 1, "merge": "mix", "server_rate": 0.6}
_CHURN = {"availability": "churn"}
_SHORT = {"availability": "churn", "on_s": 60.0, "off_s": 60.0}
_MOMENTUM = {**_EACH, "staleness": "none", "server_rate": 0.03, "server_momentum": 0.9}
_IID = {"partition": "iid"}
_PAYLOADS = {
    "top-k, 10 %": {"payload": "top-k", "payload_share": 0.1},
    "top-k, 1 %": {"payload": "top-k", "payload_share": 0.01},
    "significant, 1 %": {"payload": "significant", "payload_threshold": 0.01},
    "significant, 10 %": {"payload": "significant", "payload_threshold": 0.1},
    "rank 2": {"payload": "low-rank", "payload_rank": 2},
    "rank 1": {"payload": "low-rank", "payload_rank": 1},
}
PAYLOADS = ("all weights", *_PAYLOADS)
"""What clients send, as pictures and tables call it."""

TRIGGERS = {
    "wait for all 10": "sync",
    "first 7 of 10, drop": "backup",
    "first 3, keep": "semi-async",
    "each at once, mix": "mix",
}
"""When the server merges, and the protocol of it; its twin with images alike ends in ``, iid``."""

CASES: dict[str, Case] = {
    # When the server merges.
    "sync": Case(_SYNC),
    "backup": Case({"quorum": 7, "late": "drop"}),
    "spare": Case({**_SYNC, "at_once": 13}),
    "deadline": Case({**_SYNC, "deadline": DEADLINE_S}),
    "deadline, keep": Case({"quorum": ROWS, "deadline": DEADLINE_S}),
    "in time": Case({**_SYNC, "deadline": DEADLINE_S}, who="in-time"),
    "tiers": Case(_SYNC, who="tier"),
    "fewer steps": Case(_SYNC, effort="by-speed"),
    "fewer steps, normalised": Case({**_SYNC, "normalise": True}, effort="by-speed"),
    "fewer steps, pulled": Case({**_SYNC, "pull": 0.1}, effort="by-speed"),
    "semi-async": Case(),
    "sync of 5": Case({"at_once": 5, "quorum": 5, "late": "drop"}),
    "semi-async of 5": Case({"quorum": 5}),
    # Images alike.
    "sync, iid": Case({**_SYNC, **_IID}),
    "backup, iid": Case({"quorum": 7, "late": "drop", **_IID}),
    "semi-async, iid": Case(_IID),
    "mix, iid": Case({**_MIX, **_IID}),
    # Stale updates.
    "each": Case({**_EACH, "staleness": "none"}),
    "each, power": Case(_EACH),
    "each, inverse": Case({**_EACH, "staleness": "inverse"}),
    "each, exponential": Case({**_EACH, "staleness": "exponential", "staleness_power": 0.1}),
    "each, slowly": Case({**_EACH, "staleness": "none", "server_rate": 0.3}),
    "each, significant": Case({**_EACH, "payload": "significant", "payload_threshold": 0.03}),
    "mix": Case(_MIX),
    "mix, none": Case({**_MIX, "staleness": "none"}),
    "mix, slowly": Case({**_MIX, "staleness": "none", "server_rate": 0.2}),
    "elastic": Case({**_MIX, "staleness": "none", "merge": "elastic", "server_rate": 0.2}),
    "momentum": Case(_MOMENTUM),
    "look ahead": Case({**_MOMENTUM, "look_ahead": True}),
    "semi-async, steps": Case(effort="by-speed"),
    # Clients that come and go, and images that do.
    "short stays": Case(_SHORT),
    "short stays, chosen": Case(_SHORT, who="staying"),
    "churn, sync": Case({**_SYNC, **_CHURN}),
    "churn, any lag": Case({"quorum": 5, "max_staleness": 1000, **_CHURN}),
    "churn, lag 5": Case({"quorum": 5, "max_staleness": 5, **_CHURN}),
    "growing": Case({"growth_s": 4000.0}),
    # Equally fast clients, which all are waited for.
    "equal": Case(_EQUAL),
    "equal, iid": Case({**_EQUAL, **_IID}),
    "equal, shards": Case({**_EQUAL, "partition": "shards"}),
    "equal, features": Case({**_EQUAL, **_IID, "feature_spread": 1.0}),
    "equal, quantity": Case({**_EQUAL, **_IID, "size_spread": 1.0}),
    "equal, momentum": Case({**_EQUAL, "server_momentum": 0.9}),
    "equal, variates": Case({**_EQUAL, "control_variates": True}),
    "equal, pulled": Case({**_EQUAL, "pull": 0.1}),
    "equal, shared": Case({**_EQUAL, "shared": SHARED}),
    "one class": Case({**_EQUAL, "partition": "shards", "classes_each": 1}),
    "one class, shared": Case(
        {**_EQUAL, "partition": "shards", "classes_each": 1, "shared": SHARED}
    ),
    "equal, importance": Case({**_EQUAL, "importance": True}),
    "equal, sizes": Case({**_EQUAL, "size_spread": 1.0}),
    "equal, virtual": Case({**_EQUAL, "size_spread": 1.0, "merge_weights": "equal"}, who="by-size"),
    "equal, steps": Case({**_EQUAL, "size_spread": 1.0}, effort="by-samples"),
    "equal, normalised": Case(
        {**_EQUAL, "size_spread": 1.0, "normalise": True}, effort="by-samples"
    ),
    **{f"equal, alpha {a:g}": Case({**_EQUAL, "alpha": a}) for a in SKEWS if a != 0.1},
    # How much is trained per job, and what is sent.
    **{f"steps {e}": Case({"local_steps": e}) for e in STEPS if e != 10},
    **{name: Case(changes) for name, changes in _PAYLOADS.items()},
    "large": Case({"model_bits": BIG_BITS}),
    **{
        f"large, {name}": Case({**changes, "model_bits": BIG_BITS})
        for name, changes in _PAYLOADS.items()
    },
    # K-sync and K-async.
    **{f"K-sync {k}": Case({"quorum": k, "late": "drop"}) for k in QUORUMS if k not in (7, ROWS)},
    **{f"K-async {k}": Case({"quorum": k}) for k in QUORUMS if k not in (1, 3, 5)},
}
"""All protocols by name."""


def skew_case(alpha: float) -> str:
    """Return the name of the protocol with equally fast clients at an alpha per class."""
    return "equal" if alpha == 0.1 else f"equal, alpha {alpha:g}"


def steps_case(steps: int) -> str:
    """Return the name of the semi-asynchronous protocol with so many local steps."""
    return "semi-async" if steps == 10 else f"steps {steps}"


def payload_case(payload: str, large: bool) -> str:
    """Return the name of the semi-asynchronous protocol in which clients send something.

    Args:
        payload: One of ``PAYLOADS``.
        large: Whether the model is ten times as large.
    """
    if payload == PAYLOADS[0]:
        return "large" if large else "semi-async"
    return f"large, {payload}" if large else payload


def quorum_case(quorum: int, kept: bool) -> str:
    """Return the name of the protocol that waits for K clients.

    Args:
        quorum: K.
        kept: Whether later clients go on (K-async), or are dropped (K-sync).
    """
    if kept:
        names = {1: "each, power", 3: "semi-async", 5: "semi-async of 5"}
        return names.get(quorum, f"K-async {quorum}")
    return {7: "backup", ROWS: "sync"}.get(quorum, f"K-sync {quorum}")


FAMILIES = (
    Family(1, "[41] [McMahan2017]", "20 local steps, not 1", "steps 20", "steps 1"),
    Family(1, "[41] [McMahan2017]", "10 local steps, not 1", "semi-async", "steps 1"),
    Family(1, "[41] [McMahan2017]", "5 local steps, not 1", "steps 5", "steps 1"),
    Family(1, "[56] [Hsieh2017]", "entries beyond 1 %", "significant, 1 %", "semi-async"),
    Family(1, "[56] [Hsieh2017]", "entries beyond 10 %", "significant, 10 %", "semi-async"),
    Family(1, "[57] [Konecny2016]", "the largest 10 %", "top-k, 10 %", "semi-async"),
    Family(1, "[57] [Konecny2016]", "the largest 1 %", "top-k, 1 %", "semi-async"),
    Family(1, "[57] [Konecny2016]", "matrices of rank 2", "rank 2", "semi-async"),
    Family(1, "[57] [Konecny2016]", "matrices of rank 1", "rank 1", "semi-async"),
    Family(1, "[58] [Chen2016]", "first 7 of 10, others dropped", "backup", "sync"),
    Family(1, "[58] [Chen2016]", "first 10 of 13, others dropped", "spare", "sync"),
    Family(1, "[59] [Nishio2019]", "60 s, then drop", "deadline", "sync"),
    Family(1, "[59] [Nishio2019]", "only those done in 60 s", "in time", "sync"),
    Family(1, "[60] [Wang2019]", "slow clients take fewer steps", "fewer steps", "sync"),
    Family(1, "[62] [ZhangW2016]", "weights 1 / tau", "each, inverse", "each"),
    Family(1, "[63] [LuX2020]", "each at once, beyond 3 %", "each, significant", "each, power"),
    Family(1, "[64] [ChenY2020]", "images are gathered on the way", "growing", "semi-async"),
    Family(1, "[65] [Dutta2021]", "first 3, late ones kept", "semi-async", "K-sync 3"),
    Family(1, "[66] [LuY2020]", "stays of 60 s", "short stays", "semi-async"),
    Family(1, "[66] [LuY2020]", "only those who stay", "short stays, chosen", "short stays"),
    Family(1, "[67] [Wu2021]", "churn: first 5, lag up to 5", "churn, lag 5", "churn, sync"),
    Family(1, "[67] [Wu2021]", "churn: lag up to 5, not any", "churn, lag 5", "churn, any lag"),
    Family(3, "[83] [Chai2020]", "a tier of like speed", "tiers", "sync"),
    Family(3, "[84] [LiX2021]", "60 s, then keep", "deadline, keep", "sync"),
    Family(3, "[84] [LiX2021]", "keep, not drop", "deadline, keep", "deadline"),
    Family(3, "[85] [Xu2021]", "fewer steps, normalised", "fewer steps, normalised", "sync"),
    Family(3, "[88] [Dean2012]", "each at once, in full", "each", "semi-async"),
    Family(3, "[89] [Zhang2015]", "elastic averaging", "elastic", "mix, slowly"),
    Family(3, "[90] [Xie2020]", "mix: (1 + tau)^-0.5, not 1", "mix", "mix, none"),
    Family(3, "[90] [Xie2020]", "add: (1 + tau)^-0.5, not 1", "each, power", "each"),
    Family(3, "[90] [Xie2020]", "mix: not 0.2 for all", "mix", "mix, slowly"),
    Family(3, "[90] [Xie2020]", "add: not 0.3 for all", "each, power", "each, slowly"),
    Family(3, "[92] [Chan2014]", "exp(-0.1 tau), not 1", "each, exponential", "each"),
    Family(3, "[62] [ZhangW2016]", "1 / tau, not (1 + tau)^-0.5", "each, inverse", "each, power"),
    Family(3, "[62] [ZhangW2016]", "1 / tau, not 0.3 for all", "each, inverse", "each, slowly"),
    Family(3, "[94] [Hakimi2020]", "momentum that looks ahead", "look ahead", "momentum"),
    Family(3, "[94] [Hakimi2020]", "not without momentum", "look ahead", "each, slowly"),
    Family(3, "[95] [ChenM2021]", "fewer steps, late ones kept", "semi-async, steps", "semi-async"),
    Family(4, "[40] [Kairouz2021]", "labels: alpha 1", "equal, alpha 1", "equal, iid"),
    Family(4, "[40] [Kairouz2021]", "labels: alpha 0.3", "equal, alpha 0.3", "equal, iid"),
    Family(4, "[40] [Kairouz2021]", "labels: alpha 0.1", "equal", "equal, iid"),
    Family(4, "[40] [Kairouz2021]", "labels: 2 shards each", "equal, shards", "equal, iid"),
    Family(4, "[40] [Kairouz2021]", "quantity: spread 1, not 0.5", "equal, quantity", "equal, iid"),
    Family(4, "[40] [Kairouz2021]", "features: contrast", "equal, features", "equal, iid"),
    Family(4, "[98] [Hsu2019]", "server momentum 0.9", "equal, momentum", "equal"),
    Family(4, "[99] [Karimireddy2020]", "control variates", "equal, variates", "equal"),
    Family(4, "[100] [LiT2020]", "pull, mu = 0.1", "equal, pulled", "equal"),
    Family(4, "[100] [LiT2020]", "pull and partial work", "fewer steps, pulled", "deadline"),
    Family(4, "[101] [WangJ2020]", "unlike steps, normalised", "equal, normalised", "equal, steps"),
    Family(4, "[102] [HsuT2020]", "drawn by size, not weighed", "equal, virtual", "equal, sizes"),
    Family(4, "[102] [HsuT2020]", "images weigh by class", "equal, importance", "equal"),
    Family(4, "[103] [Zhao2018]", "5 % of the images are shared", "equal, shared", "equal"),
    Family(4, "[103] [Zhao2018]", "one class each: 5 % shared", "one class, shared", "one class"),
)  # fmt: skip
"""The rows of the tables that are redone."""

LEFT_OUT = {
    "[61], [86], [87], [96], [97]": "theory of convergence: nothing is decided against a clock",
    "[91]": "weights by statistics of gradients: no rule of merging here",
    "[104]": "clients upload their images: against the setting",
    "[105]": "a penalty by Fisher information: another objective of the clients",
    "[106], [107]": "a model per client: another objective than one model",
}
"""References of the three tables that are not redone, and why."""

CLAIMS = (
    Claim(
        "[Lai2022], pull request 197",
        "buffered: 180 merges in 18 913 s, synchronous: 100 in 27 618 s, to like accuracy",
        "s to 80 %", "semi-async of 5", "sync of 5",
    ),
    Claim(
        "[Lai2022], pull request 197",
        "... and the synchronous one needs fewer merges",
        "merges to 80 %", "sync of 5", "semi-async of 5",
    ),
    Claim(
        "[Chen2016]",
        "backup workers are faster than to wait for all",
        "s to 80 %", "spare", "sync",
    ),
    Claim(
        "[Chen2016]",
        "... and learn better than asynchronous updates",
        "test error", "spare", "each, slowly",
    ),
    Claim(
        "[Nishio2019]",
        "choosing those who meet the deadline is faster than to wait for all",
        "s to 80 %", "in time", "sync",
    ),
    Claim(
        "[McMahan2017]",
        "more local steps save communication",
        "merges to 80 %", "steps 20", "steps 1",
    ),
    Claim(
        "[Hsieh2017]",
        "significant entries alone save bits",
        "MB to 80 %", "significant, 1 %", "semi-async",
    ),
    Claim(
        "[Konecny2016]",
        "updates of low rank save bits",
        "MB to 80 %", "rank 2", "semi-async",
    ),
    Claim(
        "[Dutta2021]",
        "K-async merges at least as often as K-sync",
        "s per merge", "semi-async", "K-sync 3",
    ),
    Claim(
        "[Dutta2021]",
        "waiting for a few wins the race against waiting for all",
        "error", "semi-async", "sync",
    ),
    Claim(
        "[Wu2021]",
        "SAFA is faster than FedAvg where clients come and go",
        "s to 80 %", "churn, lag 5", "churn, sync",
    ),
    Claim(
        "[LiX2021]",
        "late updates help (hybrid), and are no waste",
        "error", "deadline, keep", "deadline",
    ),
    Claim(
        "[Xie2020]",
        "weights by staleness help",
        "error", "mix", "mix, none",
    ),
    Claim(
        "[ZhangW2016]",
        "rates divided by staleness help",
        "error", "each, inverse", "each",
    ),
    Claim(
        "[Hakimi2020]",
        "momentum works asynchronously if it looks ahead",
        "error", "look ahead", "momentum",
    ),
    Claim(
        "[Hsu2019]",
        "accuracy falls with skew",
        "test error", "equal, iid", "equal",
    ),
    Claim(
        "[Hsu2019]",
        "server momentum helps under skew",
        "test error", "equal, momentum", "equal",
    ),
    Claim(
        "[Karimireddy2020]",
        "control variates need fewer rounds",
        "merges to 80 %", "equal, variates", "equal",
    ),
    Claim(
        "[LiT2020]",
        "partial work and a pull beat dropping slow clients",
        "test error", "fewer steps, pulled", "deadline",
    ),
    Claim(
        "[WangJ2020]",
        "normalising helps where steps are unlike",
        "test error", "equal, normalised", "equal, steps",
    ),
    Claim(
        "[HsuT2020]",
        "virtual clients of equal size (FedVC) help where sizes are unlike",
        "test error", "equal, virtual", "equal, sizes",
    ),
    Claim(
        "[HsuT2020]",
        "images weighed by class (FedIR) help under skew",
        "test error", "equal, importance", "equal",
    ),
    Claim(
        "[Zhao2018]",
        "sharing 5 % of the images helps where clients see one class, by 30 points on CIFAR-10",
        "test error", "one class, shared", "one class",
    ),
)  # fmt: skip
"""Orderings that publications report."""
