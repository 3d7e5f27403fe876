"""The options of ``mec-gym execute`` and ``mec-gym edge``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from mec_gym.core.checks import non_negative, positive, positive_int, seed_number
from train.config import FrameOptions


@dataclass(frozen=True, kw_only=True)
class ExecuteRun(FrameOptions):
    """Execute partitions of a network for real, and hold the simulator's prediction against it.

    This process is the device, another one is the edge; they are joined by TCP through a link that
    is shaped here. Both compute on one thread of the processor. What is emulated: the rate and the
    delay of the link, by waiting, and a slower device or edge, by waiting until
    begin + factor x own CPU time. Everything else is real.

    Attributes:
        network: As ``mec-gym profile`` takes it: a profile that ships, such as resnet18 or
            mobilenetv2-digits; MODULE[:FACTORY]; or a .pt2 or .pt file. Random weights are drawn
            with seed 0 on both sides.
        out: Folder for result.json, frames.csv and execution.png.
        exit: Index of the exit that answers, from 0; by default the deepest one.
        partition: device-only; edge-only; light, the least predicted latency (the default); heavy,
            the highest predicted throughput; after:LAYER, the device runs LAYER and all before it;
            or the number of a valid partition, from 0, all on the edge, to all on the device.
        policy: An agent of mec/EarlyExitPartition-v2, as ``mec-gym compare`` names it, that decides
            the exit and the partition of every frame. It needs --pipeline and --fps, because in
            the simulator frames arrive at a rate and overlap, and accuracies of the exits, unless
            --exit leaves only one.
        timeout: With a policy, a frame that would take longer in the simulator is not started, ms;
            by default 1000.
        all_partitions: Execute every valid partition, each with so many frames.
        rate: Rate of the link, Mbit/s; by default the link is as fast as it is.
        trace: CSV file of time and bandwidth in place of a rate, as for csv:PATH. It begins with
            each run; after its end its last rate holds.
        delay: How much later than sent a message arrives, one way, ms.
        device_factor: How many times slower than this machine the device is, at least 1.
        edge_factor: How many times slower than its machine the edge is, at least 1.
        quantise: Whether floats cross as 8 bit numbers. Then answers differ a little.
        pipeline: Whether device, link and edge work on different frames at the same time;
            otherwise each frame waits for the answer to the one before it.
        fps: How many frames arrive per second. By default the next frame arrives when the one
            before it is answered, and with --pipeline all are there at the begin.
        frames: Number of frames, or of frames per partition.
        edge: HOST:PORT of an edge server that ``mec-gym edge`` runs; by default one is started
            here, for this run.
        device_profile: JSON file from which the device's layer times are predicted, in place of a
            measurement: of ``mec-gym profile --measure``, or of ``mec-gym calibrate``.
        edge_profile: The same for the edge.
        repeats: How often each layer is timed for the prediction.
        seed: Seed of the frames' content.
        overwrite: Whether files that are already there are replaced.
    """

    network: Annotated[str, tyro.conf.Positional]
    out: Path
    exit: int | None = None
    partition: str | None = None
    policy: str | None = None
    timeout: float | None = None
    all_partitions: bool = False
    rate: float | None = None
    trace: Path | None = None
    delay: float = 0.0
    device_factor: float = 1.0
    edge_factor: float = 1.0
    quantise: bool = False
    pipeline: bool = False
    fps: float | None = None
    frames: int = 20
    edge: str | None = None
    device_profile: Path | None = None
    edge_profile: Path | None = None
    repeats: int = 25
    seed: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        self.check_frames(self.network)
        positive_int("frames", self.frames)
        positive_int("repeats", self.repeats)
        seed_number("seed", self.seed)
        non_negative("delay", self.delay)
        if self.rate is not None:
            positive("rate", self.rate)
            if self.trace is not None:
                raise ValueError("rate and trace must not both be given: a trace holds the rates")
        if self.all_partitions and self.partition is not None:
            raise ValueError("partition and all_partitions must not both be given")
        if self.policy is not None:
            self._check_policy()
        elif self.timeout is not None:
            raise ValueError("timeout goes with a policy only: nothing else is dropped")
        if self.edge is not None:
            _ = self.address

    def _check_policy(self) -> None:
        if self.all_partitions or self.partition is not None:
            other = "all_partitions" if self.all_partitions else "partition"
            raise ValueError(f"policy and {other} must not both be given: a policy decides")
        if not self.pipeline or self.fps is None:
            raise ValueError(
                "policy needs pipeline and fps: in the simulator frames arrive at a rate and wait"
            )
        if self.quantise:
            raise ValueError(
                "policy and quantise must not both be given: the simulator sends whole floats"
            )
        if self.timeout is not None:
            positive("timeout", self.timeout)

    @property
    def chosen(self) -> str:
        """The partition that is asked for."""
        return self.partition or "light"

    @property
    def longest_ms(self) -> float:
        """The timeout of a policy's simulator, ms."""
        return 1000.0 if self.timeout is None else self.timeout

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the edge server.

        Raises:
            ValueError: It is not HOST:PORT.
        """
        host, colon, port = (self.edge or "").rpartition(":")
        if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
            raise ValueError(f"edge must be HOST:PORT, got {self.edge!r}")
        return host.strip("[]"), int(port)


@dataclass(frozen=True, kw_only=True)
class EdgeRun(FrameOptions):
    """Be the edge of ``mec-gym execute --edge HOST:PORT``: run the rest of a network.

    The server takes only messages of its own protocol, a header and raw tensors, and only from a
    device that has the same network and weights. There is no password and no encryption: let only
    those reach it whom you trust.

    Attributes:
        network: As ``mec-gym execute`` takes it.
        port: The port to listen at; 0 takes a free one.
        host: The address to listen at. By default only this machine reaches it; :: or 0.0.0.0
            lets others in.
        devices: The number of devices to serve, one after the other, before it ends.
    """

    network: Annotated[str, tyro.conf.Positional]
    port: int
    host: str | None = None
    devices: int = 1

    def __post_init__(self) -> None:
        self.check_frames(self.network)
        positive_int("devices", self.devices)
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"port must be in [0, 65535], got {self.port}")
