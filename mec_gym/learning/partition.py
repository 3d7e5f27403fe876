"""Which images each client holds: alike, skewed by class, unequal in number, partly shared."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from mec_gym.core.checks import non_negative, one_of, positive, positive_int
from mec_gym.core.types import BoolArray, FloatArray, IntArray
from mec_gym.learning.strata import in_strata

Kind = Literal["iid", "dirichlet", "shards"]
"""How images are dealt out: at random, by a mixture of classes per client, in shards of a class."""

LARGEST_CLIENT = 4
"""If sizes differ, no client holds more of its own than this many times an equal share."""


class Partition(NamedTuple):
    """Which images each client holds, in each of n episodes."""

    own: npt.NDArray[np.signedinteger]
    """(n, N, most): indices of the images, int16 if they fit and else int32. A client's own
    images come first, in random order; then those that all clients share; the rest is -1."""
    samples: IntArray
    """(n, N): how many images each client holds, the shared ones included."""


def most_images(images: int, clients: int, size_spread: float, shared: int) -> int:
    """Return the length of a client's row, the most images that it may hold.

    Args:
        images: How many images there are.
        clients: How many clients there are.
        size_spread: Standard deviation of the logarithm of their sizes.
        shared: How many images all clients share.

    Raises:
        ValueError: A parameter is out of range, or there are fewer images than clients.
    """
    positive_int("images", images)
    positive_int("clients", clients)
    non_negative("size_spread", size_spread)
    if isinstance(shared, bool) or not isinstance(shared, (int, np.integer)) or shared < 0:
        raise ValueError(f"shared must be a whole number of at least 0, got {shared!r}")
    if shared >= images:
        raise ValueError(f"shared must be less than the {images} images, got {shared!r}")
    available = images - shared
    if clients > available:
        raise ValueError(f"clients must be at most the {available} images left, got {clients!r}")
    equal = -(-available // clients)
    return shared + (min(available, LARGEST_CLIENT * equal) if size_spread else equal)


def partition(
    labels: IntArray,
    clients: int,
    rng: np.random.Generator,
    n: int,
    *,
    kind: Kind,
    alpha: float,
    classes_each: int,
    size_spread: float,
    shared: int,
) -> Partition:
    """Draw which images each client holds, for n episodes.

    First the images that all clients share are set aside [Zhao2018], each class in its share. No
    other image belongs to two clients, and each client has at least one of its own.

    - ``"iid"``: a client's own images are drawn at random.
    - ``"dirichlet"`` [Hsu2019]: each client has a mixture of classes, drawn from a Dirichlet
      distribution around the shares of the classes, and draws its images by it. All draw at
      once, and a class is given out in random order until it runs out. Who went away empty-handed
      draws again, without the classes that have run out.
    - ``"shards"`` [McMahan2017]: the images are sorted by class and cut into
      clients x ``classes_each`` shards, and each client has ``classes_each`` of them. A shard
      that lies on the border of two classes holds both.

    The sizes of clients are equal (of shards, equal up to one image, so that none is left over),
    or lognormal: in proportion to exp(``size_spread`` z) with Gaussian z, at least 1, and at most
    ``LARGEST_CLIENT`` times an equal share.

    Args:
        labels: The classes of all images, (images,).
        clients: N, how many clients there are.
        rng: Where the random numbers come from.
        n: How many episodes.
        kind: How images are dealt out.
        alpha: Concentration of the Dirichlet distribution, the sum of its parameters. The smaller,
            the fewer classes a client has; at 100, all mixtures are nearly the same. Where others
            give the parameter of each class, alpha is that times the number of classes. Only
            ``"dirichlet"`` uses it.
        classes_each: Shards per client. Only ``"shards"`` uses it.
        size_spread: Standard deviation of the logarithm of the sizes; 0 makes them equal.
        shared: How many images all clients share.

    Raises:
        ValueError: A parameter is out of range, or there are fewer images than clients.
    """
    most = most_images(len(labels), clients, size_spread, shared)
    one_of("kind", kind, get_args(Kind))
    positive("alpha", alpha)
    positive_int("classes_each", classes_each)
    if kind == "shards" and classes_each > len(labels):
        raise ValueError(
            f"classes_each must be at most the {len(labels)} images, got {classes_each!r}"
        )
    own = np.full((n, clients, most), -1, dtype=np.int16 if len(labels) <= 1 << 15 else np.int32)
    samples = np.empty((n, clients), dtype=np.int64)
    place = np.arange(most)
    for row, held in zip(own, samples, strict=True):
        order = rng.permutation(len(labels))
        if shared:
            order = in_strata(labels, order)
        common, left = order[:shared], rng.permutation(order[shared:])
        if size_spread:
            sizes = _lognormal_sizes(rng, len(left), clients, size_spread, most - shared)
        else:
            sizes = _equal_sizes(rng, len(left), clients, all_of_them=kind == "shards")
        dealt = left[: sizes.sum()]
        if kind == "iid":
            owner = np.repeat(np.arange(clients), sizes)
        elif kind == "shards":
            dealt, owner = _by_class(labels, dealt), _by_shards(rng, sizes, classes_each)
        else:
            dealt, owner = _by_mixture(rng, _by_class(labels, left), labels, sizes, alpha)
        shuffled = rng.permutation(len(dealt))
        shuffled = shuffled[np.argsort(owner[shuffled], kind="stable")]
        row[place < sizes[:, None]] = dealt[shuffled]
        held[:] = sizes + shared
        row[(place >= sizes[:, None]) & (place < held[:, None])] = np.tile(common, clients)
    return Partition(own, samples)


def check_held(own: npt.NDArray[Any], samples: IntArray, images: int, least: int = 1) -> None:
    """Check which images clients hold in a trace of the user's.

    Args:
        own: Numbers of the images, (..., most).
        samples: How many of them count, from the first on, (...).
        images: How many images there are.
        least: How many each client must hold.

    Raises:
        ValueError: A client holds too few or too many images, or some that do not exist.
    """
    most = own.shape[-1]
    if (samples < least).any() or (samples > most).any():
        raise ValueError(
            f"trace.samples must be in [{least}, {most}], got {samples.min()} to {samples.max()}"
        )
    wrong = (np.arange(most) < samples[..., None]) & ((own < 0) | (own >= images))
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"trace.own must number images from 0 to {images - 1}, got {own[at]} at {at}"
        )


def class_shares(
    labels: IntArray, own: npt.ArrayLike, samples: IntArray, classes: int
) -> FloatArray:
    """Return the share of each class among what each client holds, (..., N, classes).

    Args:
        labels: The classes of all images, (images,).
        own: Which images each client holds, (..., N, most).
        samples: How many of them count, from the first on, (..., N); if 0, all shares are 0.
        classes: How many classes there are.
    """
    own = np.asarray(own)
    held = np.asarray(samples)[..., None]
    counts = np.zeros((*own.shape[:-1], classes))
    valid: BoolArray = np.arange(own.shape[-1]) < held
    *client, _ = np.nonzero(valid)
    np.add.at(counts, (*client, labels[own[valid]]), 1)
    return counts / np.maximum(held, 1)


def _equal_sizes(
    rng: np.random.Generator, available: int, clients: int, all_of_them: bool
) -> IntArray:
    sizes: IntArray = np.full(clients, available // clients)
    if all_of_them:
        sizes[rng.permutation(clients)[: available % clients]] += 1
    return sizes


def _lognormal_sizes(
    rng: np.random.Generator, available: int, clients: int, spread: float, most: int
) -> IntArray:
    logarithm = spread * rng.standard_normal(clients)
    weight = np.exp(logarithm - logarithm.max())  # the largest may be beyond every float
    sizes: IntArray = np.clip(available * weight / weight.sum(), 1, most).astype(np.int64)
    while sizes.sum() > available:  # by what the smallest were given
        sizes[sizes.argmax()] -= 1
    return sizes


def _by_class(labels: IntArray, images: IntArray) -> IntArray:
    return images[np.argsort(labels[images], kind="stable")]


def _by_mixture(
    rng: np.random.Generator, images: IntArray, labels: IntArray, sizes: IntArray, alpha: float
) -> tuple[IntArray, IntArray]:
    """Deal images that are sorted by class by a mixture per client: which ones, and to whom."""
    _, counts = np.unique(labels[images], return_counts=True)
    mixtures = rng.dirichlet(alpha * counts / counts.sum(), size=len(sizes))
    order = rng.permutation(len(sizes))  # who comes first if a class runs out
    mixtures, wanted = mixtures[order], sizes[order]
    remaining, taken = counts.copy(), np.zeros(mixtures.shape, dtype=np.int64)
    # What is drawn of a class that has run out is drawn anew from those that are left. Each round
    # but the last one uses up a class.
    while wanted.any():
        weights = np.where(remaining > 0, mixtures, 0)
        gone = ~weights.any(axis=1)  # of these mixtures, nothing is left
        weights[gone] = remaining
        drawn = rng.multinomial(wanted, weights / weights.sum(axis=1, keepdims=True))
        granted = np.diff(np.minimum(drawn.cumsum(axis=0), remaining), axis=0, prepend=0)
        taken[order] += granted
        wanted = wanted - granted.sum(axis=1)
        remaining = remaining - granted.sum(axis=0)
    ends = counts.cumsum() - remaining
    starts = counts.cumsum() - counts
    dealt = np.concatenate([images[a:b] for a, b in zip(starts, ends, strict=True)])
    owner = np.repeat(np.tile(np.arange(len(sizes)), len(counts)), taken.T.ravel())
    return dealt, owner


def _by_shards(rng: np.random.Generator, sizes: IntArray, classes_each: int) -> IntArray:
    """Say to whom images that are sorted by class belong, if clients get a few pieces of them."""
    client = np.repeat(np.arange(len(sizes)), classes_each)
    number = np.tile(np.arange(classes_each), len(sizes))
    pieces = (sizes[client] + number) // classes_each  # equal up to one; they sum to the size
    order = rng.permutation(len(client))
    return np.repeat(client[order], pieces[order])
