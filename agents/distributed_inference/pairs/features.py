"""What the pair scorer sees, field by field, and how it lies in a row of network inputs.

The head fills rows of numbers with numpy, the network reads them with torch. Both reach the
numbers through :class:`Layout` alone, by name, so no column number stands in either. Nothing
here imports torch.

Letters in shapes: B rounds (any number of axes), N devices, P = M + 1 places. Place 0 is the
device itself, place m = 1..M is server m.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar

A = TypeVar("A")
"""The type of the fields: a numpy array or a torch tensor."""
R = TypeVar("R")
"""A record of fields."""


@dataclass(slots=True)
class PairDelays(Generic[A]):
    """What placing a device's current block at a place takes, each (B, N, P) in seconds.

    Attributes:
        now: Transfer and computing of the block, and the return of the result if it is the
            last, as if none of the other devices were there, [Li2024] eq. (3), (5) and (6).
        ahead: The least cost of all that comes after the block, as in
            :func:`~mec_gym.distributed_inference.lookahead.look_ahead`; it counts the crowd that
            is to be expected at each server.
        compute: What the block takes of the place's server, if it had the server to itself. It
            is 0 at home, and everywhere in a problem without contention.
        upload: What the block takes of the band up to the place's station, if it had the band
            to itself. It is 0 where the block is not sent by radio, and without contention.
        download: What the block or the task's result takes of a band down, if it had the band to
            itself: at a server that server's band, at home the band of the station where the
            block before ran. It is 0 where nothing is fetched, and without contention.
        stay: Computing the next block at the same place, too.
        leave: Moving the next block's input from the place to the best other place.
        rest: Computing all the rest of the task, the current block included, at the place.
        send: Sending 1 Mbit from the device to the place's station.
    """

    now: A
    ahead: A
    compute: A
    upload: A
    download: A
    stay: A
    leave: A
    rest: A
    send: A


@dataclass(slots=True)
class PairFeatures(PairDelays[A]):
    """All that is said of a (device, place) pair, each (B, N, P); delays come first.

    Attributes:
        load: Tenants of the place's server other than the devices; 0 at home.
        stays: 1 where the block before ran (at first: at home), else 0.
        allowed: 1 if the device may choose the place, else 0.
    """

    load: A
    stays: A
    allowed: A


@dataclass(slots=True)
class DeviceFeatures(Generic[A]):
    """What is said of a device, each (B, N).

    Attributes:
        exists: 1, or 0 for a row that only fills up the room.
        active: 1 if the device has a block to place, else 0.
        delay: How long its task has taken so far, in seconds.
        deadline: The deadline of the task or of each of its blocks, as the scenario has it, in
            seconds; 1 where the device does not exist.
        blocks_left: Blocks that are still to be placed, as a share of all blocks of a task.
        energy: Energy of computing all the rest of the task at home, as a share of what is in
            the battery, at most 1.
    """

    exists: A
    active: A
    delay: A
    deadline: A
    blocks_left: A
    energy: A


@dataclass(slots=True)
class RoundFeatures(Generic[A]):
    """What is said of a round, each (B,).

    Attributes:
        rounds_left: Rounds that are still to be played, as a share of the episode's.
        crowd: Devices with a block to place, per server.
    """

    rounds_left: A
    crowd: A


@dataclass(slots=True)
class Features(Generic[A]):
    """All that the network is told of B rounds."""

    pair: PairFeatures[A]
    device: DeviceFeatures[A]
    round: RoundFeatures[A]


def width(kind: type[Any]) -> int:
    """How many fields a kind of record has."""
    return len(fields(kind))


def columns(record: Any, kind: type[Any] | None = None) -> list[Any]:
    """The fields of a record in order.

    Args:
        record: The record.
        kind: Only the fields of this kind of record, which ``record`` extends; all if None.
    """
    return [getattr(record, field.name) for field in fields(kind or record)]


def named(kind: type[R], table: Any) -> R:
    """The record whose fields are the columns (last axis) of a table, as views."""
    return kind(*(table[..., i] for i in range(width(kind))))


@dataclass(frozen=True, slots=True)
class Layout:
    """How the features of N devices and M servers lie in a row of numbers.

    First come the pairs, device by device and place by place, then the devices, then the round;
    each as its fields in the order of their definition.

    Attributes:
        devices: N.
        servers: M.
    """

    devices: int
    servers: int

    @property
    def places(self) -> int:
        """The number of places P, the device itself included."""
        return self.servers + 1

    @property
    def width(self) -> int:
        """The length of a row."""
        pairs = self.devices * self.places * width(PairFeatures)
        return pairs + self.devices * width(DeviceFeatures) + width(RoundFeatures)

    def unpack(self, rows: A) -> Features[A]:
        """The features that lie in rows (B, width), as views.

        What is written to a field is written to the rows: so are rows filled.

        Args:
            rows: A numpy array or a torch tensor.
        """
        table: Any = rows
        batch, n, p = table.shape[:-1], self.devices, self.places
        end_of_pairs = n * p * width(PairFeatures)
        end_of_devices = end_of_pairs + n * width(DeviceFeatures)
        pairs = table[..., :end_of_pairs].reshape(*batch, n, p, width(PairFeatures))
        devices = table[..., end_of_pairs:end_of_devices]
        return Features(
            pair=named(PairFeatures, pairs),
            device=named(DeviceFeatures, devices.reshape(*batch, n, width(DeviceFeatures))),
            round=named(RoundFeatures, table[..., end_of_devices:]),
        )
