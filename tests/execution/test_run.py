"""Networks executed over real TCP: the same answers, and times as predicted."""

import itertools
import socket
import threading
import time
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from executed import Branches, build, seeded

from mec_gym.early_exit.partitions import enumerate_partitions
from mec_gym.execution.device import Device, EdgeConnection, EdgeFailed, Frame, Partition
from mec_gym.execution.edge import LOOPBACK, listen
from mec_gym.execution.link import Link
from mec_gym.execution.network import random_frames
from mec_gym.execution.partitions import Choice, named
from mec_gym.execution.prediction import Cost, predict
from mec_gym.execution.run import Conditions, Execution
from mec_gym.execution.timing import HalfTimes, LayerTimes, measure_layers, with_seconds
from mec_gym.execution.wire import (
    VERSION,
    Kind,
    Message,
    encode,
    receive,
    send,
    text_message,
    text_of,
)
from mec_gym.network.tandem import RateCurve, serve_by_readiness

FAST = RateCurve.of([0.0], [50e6])
HALF = HalfTimes.from_list([0.5e-3, 0.5e-3, 0.5e-3, 1e-3, 2e-3, 4e-3, 1.0, 1.0, 1.0])
"""0.5 ms without layers, else 1 ms beyond the layers, 2 ms after 10 ms of idling, 4 after 100."""
NOTHING = Cost(device_s=1e-3, bits=1, edge_s=1e-3, beside_s=0.0, round_trip_s=0.0)


@pytest.fixture
def executing(network, edge):
    opened = []

    def start(**conditions):
        opened.append(Execution(network, edge, Conditions(**conditions)))
        return opened[-1]

    yield start
    for execution in opened:
        execution.close()


@pytest.mark.parametrize("exit_", [0, 1])
def test_all_partitions_give_the_same_answers(executing, network, exit_):
    execution = executing(curve=FAST, pipeline=True)
    part = network.split.graph.at_exit(exit_)
    all_ = enumerate_partitions(part)
    assert len(all_) == {0: 4, 1: 13}[exit_]
    partitions = [execution.prepare(Choice(str(k), row), exit_) for k, row in enumerate(all_)]
    # Mixed, so that frames overtake each other.
    order = np.random.default_rng(5).permutation(3 * len(partitions)) % len(partitions)
    run = execution.run([partitions[k] for k in order], [NOTHING] * len(order))
    assert run.failure is None and len(run.frames) == 3 * len(partitions)
    assert (run.answers.compared, run.answers.equal) == (len(order), len(order))
    assert run.answers.largest == 0.0 and run.answers.same_class == len(order)
    for frame in run.frames:
        halves = partitions[order[frame.number]].halves
        header = 28 + 2 + 10 * len(halves.sent) + 8  # and the number of the partition
        assert frame.bits == (halves.bits + 8 * header if frame.partition.sends else 0)


def test_a_wrong_answer_is_noticed(network, serving):
    other = build(Branches)  # other weights, under the digest of the right ones
    server = serving(Pretended(network.split.digest, other.split.split))
    connection = EdgeConnection(server.host, server.port, network.split.digest)
    execution = Execution(network, connection, Conditions())
    part = network.split.graph.at_exit(1)
    partitions = [execution.prepare(named(part, name), 1) for name in ("edge-only", "device-only")]
    run = execution.run(partitions, [NOTHING] * 2)
    assert (run.answers.compared, run.answers.equal) == (2, 1)
    expected = other.split.whole(execution.inputs[0], 1) - network.split.whole(
        execution.inputs[0], 1
    )
    assert run.answers.largest == pytest.approx(float(expected.abs().max()))
    execution.close()
    connection.close()
    assert server.ended()


def test_quantised_answers_differ_a_little_and_cost_a_quarter(executing, network):
    execution = executing(quantised=True)
    part = network.split.graph.at_exit(1)
    quantised = execution.prepare(named(part, "edge-only"), 1)
    run = execution.run([quantised] * 4, [NOTHING] * 4)
    assert run.answers.equal == 0 and 0 < run.answers.largest < 0.1
    assert run.answers.same_class == 4
    plain = quantised.halves.bits
    assert run.frames[0].bits == plain / 4 + 8 * (28 + 2 + 18 + 10 + 8 + 24)


def test_alone_on_the_device(executing, network):
    execution = executing(device_factor=3.0)
    partition = execution.prepare(named(network.split.graph.at_exit(0), "device-only"), 0)
    run = execution.run([partition] * 2, [NOTHING] * 2)
    assert run.answers.equal == 2 and all(frame.bits == 0 for frame in run.frames)
    assert all(stages["link"] == stages["edge"] == 0 for stages in run.measured)
    for frame, stages in zip(run.frames, run.measured, strict=True):
        assert stages["total"] == pytest.approx(frame.done - frame.arrival)


def test_stages_add_up_and_the_emulated_ones_last_as_asked(executing, network):
    execution = executing(
        curve=RateCurve.of([0.0], [1e6]), delay_s=0.02, edge_factor=40.0, device_factor=5.0
    )
    choice = named(network.split.graph.at_exit(1), "edge-only")
    partition = execution.prepare(choice, 1)
    seconds = np.array([0.0] + [1e-3] * (len(network.split.graph) - 1))
    times = LayerTimes(graph=with_seconds(network.split.graph, seconds), half_s=HALF)
    cost = execution.cost(partition, times, times)
    layers = int(choice.on_edge.sum())
    assert cost.edge_s == pytest.approx(40 * (layers + 4) * 1e-3)  # a frame comes after a pause
    assert 5 * 0.5e-3 <= cost.device_s < 5 * 4e-3  # nothing but a half and the message
    assert cost.round_trip_s == 0.04 and cost.is_raw
    run = execution.run([partition] * 3, [cost] * 3)
    for frame, stages in zip(run.frames, run.measured, strict=True):
        assert cost.bits == frame.bits
        parts = sum(stages[name] for name in ("waiting", "device", "link", "round trip", "edge"))
        assert parts == pytest.approx(stages["total"], abs=1e-9)
        assert stages["link"] >= frame.bits / 1e6
        assert 0.04 <= stages["round trip"] < 0.06
        assert 0 < frame.device_cpu_s <= stages["device"] / 5
        assert 0 < frame.edge_cpu_s <= stages["edge"]  # this edge is as fast as it is
    assert run.predicted[0]["link"] == pytest.approx(cost.bits / 1e6 + cost.beside_s)


def test_a_side_that_is_busy_has_no_pause(executing, network):
    """Layers of 60 ms on either side."""
    graph = network.split.graph
    seconds = np.array([0.0] + [60e-3] * (len(graph) - 1))
    times = LayerTimes(graph=with_seconds(graph, seconds), half_s=HALF)
    alone = named(graph.at_exit(0), "device-only")
    layers = 60e-3 * (len(alone.on_edge) - 1)
    for conditions, half_s in (
        ({"pipeline": True}, 1e-3),  # the next frame is there already
        ({}, 1e-3),
        ({"pipeline": True, "fps": 0.5}, 4e-3),
        # The first pass, after a long pause, takes 4 ms longer than the layers.
        ({"pipeline": True, "fps": 1 / (layers + 4e-3 + 5e-3)}, 1.5e-3),
    ):
        execution = executing(curve=FAST, **conditions)
        cost = execution.cost(execution.prepare(alone, 0), times, times)
        assert cost.device_s == pytest.approx(layers + half_s), conditions
    # While the device is at work, the edge is idle.
    first = execution.prepare(named(graph.at_exit(1), "after:first"), 1)
    execution = executing(curve=FAST, pipeline=True, device_factor=10.0)
    cost = execution.cost(first, times, times)
    assert cost.edge_s == pytest.approx((len(graph.at_exit(1)) - 2) * 60e-3 + 4e-3)
    assert cost.beside_s == execution.beside_s.seconds[2]


@pytest.mark.parametrize(
    ("time", "rate", "mean"),
    [([0, 2, 5], [1e6, 6e6, 9e6], 4e6), ([0, 1], [0, 5e6], 5e6), ([0], [3e6], 3e6)],
    ids=["changes", "begins with an outage", "constant"],
)
def test_the_mean_rate_of_a_link(executing, time, rate, mean):
    assert executing(curve=RateCurve.of(time, rate)).mean_rate == mean


def test_times_of_layers_come_over_the_wire(network, edge):
    (numbers,) = edge.ask(Message(Kind.TIMES)).tensors
    times = LayerTimes.from_tensor(numbers, network.split.graph)
    half = times.half_s
    assert all(0 < seconds < 0.1 for seconds in half.empty.seconds)
    assert all(abs(seconds) < 0.1 for seconds in half.fixed.seconds)
    assert (times.graph.measured_seconds[1:] > 0).sum() > 3
    assert torch.equal(times.to_tensor(), numbers)
    runs = np.zeros(len(network.split.graph.at_exit(0)), dtype=bool)
    runs[1] = True
    first = times.graph.measured_seconds[1]
    assert times.half(0, runs, 0.01) == pytest.approx(
        max(half.fixed.seconds[1] + half.scale.seconds[1] * first, 0.0)
    )
    runs[:2] = True, False  # the input is no layer
    assert times.half(0, runs, 0.01) == half.empty.seconds[1]
    for wrong in (numbers[1:], -numbers, numbers / 0, numbers.reshape(1, -1)):
        with pytest.raises(ValueError, match="times must be"):
            LayerTimes.from_tensor(wrong, network.split.graph)


# --- what goes wrong


def closed_port():
    with listen(LOOPBACK, 0) as listener:
        return listener.getsockname()[1]


def test_an_edge_that_cannot_be_reached(network):
    port = closed_port()
    with pytest.raises(EdgeFailed, match=f":{port} cannot be reached: .*refused"):
        EdgeConnection(LOOPBACK, port, network.split.digest)


def test_a_silent_edge(network, monkeypatch):
    monkeypatch.setattr("mec_gym.execution.device.PATIENCE_S", 0.2)
    with (
        listen(LOOPBACK, 0) as listener,
        pytest.raises(EdgeFailed, match=r"silent for 0.2 s, perhaps it serves another device"),
    ):
        EdgeConnection(LOOPBACK, listener.getsockname()[1], network.split.digest)


def test_another_network_is_refused_and_the_server_goes_on(network, serving):
    server = serving()
    other = build(lambda: Branches())  # other weights
    for digest in (other.split.digest, "nonsense"):
        with pytest.raises(EdgeFailed, match=f"same network .* {digest[:12]}"):
            EdgeConnection(server.host, server.port, digest)
    for nonsense in (b"GET / HTTP/1.1\r\nHost: somebody\r\n\r\n", b"x"):
        with socket.create_connection((server.host, server.port)) as stranger:
            stranger.sendall(nonsense)
    connection = EdgeConnection(server.host, server.port, network.split.digest)
    connection.close()
    assert server.ended()
    assert [text.split(" was ")[-1].split(" ")[0] for text in server.said[:4]] == ["refused:"] * 4
    assert "b'GET '" in server.said[2] and server.said[4].endswith("ended")


def test_another_version_is_named_by_both_sides(network, serving):
    server = serving()
    with socket.create_connection((server.host, server.port)) as stranger:
        hello = bytearray(b"".join(encode(Message(Kind.HELLO))))
        hello[4:6] = (VERSION + 1).to_bytes(2, "big")
        stranger.sendall(hello)
        said = text_of(receive(stranger))
        assert f"version {VERSION} of the protocol, it has {VERSION + 1}" in said
    EdgeConnection(server.host, server.port, network.split.digest).close()
    assert server.ended() and f"it has {VERSION + 1}" in server.said[0]


class Pretended:
    """What an edge needs of a network."""

    def __init__(self, digest, split):
        self.split = SimpleNamespace(digest=digest, split=split)


class FakeEdge:
    """Greets, prepares what it is asked to, and then does something wrong at the n-th frame."""

    def __init__(self, wrong, after=3):
        self.listener = listen(LOOPBACK, 0)
        self.port = self.listener.getsockname()[1]
        self.wrong, self.after = wrong, after
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        connection, _ = self.listener.accept()
        with self.listener, connection:
            receive(connection)
            send(connection, encode(text_message(Kind.READY, "fake")))
            frames = 0
            while True:
                message = receive(connection)
                number, answer = message.number, torch.zeros(3, dtype=torch.float64)
                if message.kind == Kind.SPLIT:
                    send(connection, encode(Message(Kind.READY, number)))
                elif message.kind == Kind.PROBE:
                    send(connection, encode(Message(Kind.ANSWER, number, (answer,))))
                else:
                    frames += 1
                    if frames > self.after:
                        self.wrong(connection)
                        connection.shutdown(socket.SHUT_WR)
                        while connection.recv(1 << 16):  # unread bytes would reset it
                            pass
                        return
                    content = (answer, torch.zeros(1, 4))
                    send(connection, encode(Message(Kind.ANSWER, number, content)))


@pytest.mark.parametrize("pipeline", [False, True])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda c: None, "the edge ended in the middle"),
        (lambda c: c.sendall(b"nonsense" * 9), "the edge talks nonsense: .*b'nons'"),
        (lambda c: send(c, encode(text_message(Kind.REFUSAL, "out of luck"))), "out of luck"),
        (lambda c: send(c, encode(Message(Kind.ANSWER, 999))), "an answer that nobody waits for"),
        (lambda c: send(c, encode(Message(Kind.HELLO, 3))), "HELLO in place of an answer"),
        (lambda c: c.sendall(b"MECX"), "within a message"),
    ],
    ids=["ends", "nonsense", "refuses", "wrong number", "wrong kind", "ends within"],
)
def test_an_edge_that_fails_in_the_middle(network, pipeline, wrong, message):
    fake = FakeEdge(wrong)
    connection = EdgeConnection(LOOPBACK, fake.port, network.split.digest)
    execution = Execution(network, connection, Conditions(curve=FAST, pipeline=pipeline))
    partition = execution.prepare(named(network.split.graph.at_exit(1), "after:first"), 1)
    begin = time.monotonic()
    run = execution.run([partition] * 8, [NOTHING] * 8)
    execution.close()
    connection.close()
    assert time.monotonic() - begin < 5
    with pytest.raises(EdgeFailed, match=message):
        raise run.failure
    assert len(run.frames) == 3 and run.answers.equal == 0  # its zeros are not the answers


def test_a_network_that_fails_on_the_edge(network, serving):
    server = serving()
    connection = EdgeConnection(server.host, server.port, network.split.digest)
    on_edge = named(network.split.graph.at_exit(1), "edge-only").on_edge
    wanted = (torch.from_numpy(on_edge), torch.tensor([1, 0]))
    assert connection.ask(Message(Kind.SPLIT, 7, wanted)).kind == Kind.READY
    with pytest.raises(EdgeFailed, match="the edge failed: sent must be tensors of"):
        connection.ask(Message(Kind.FRAME, 0, (torch.tensor(7), torch.zeros(5))))
    connection.close()
    assert server.ended() and "failed: sent must be" in server.said[0]


def test_a_partition_that_is_not_valid_is_refused_on_either_side(network, serving):
    server = serving()
    connection = EdgeConnection(server.host, server.port, network.split.digest)
    backwards = named(network.split.graph.at_exit(1), "edge-only").on_edge.copy()
    backwards[-1] = False
    with pytest.raises(ValueError, match="on_edge must not come back from the edge"):
        network.split.split(backwards, 1)
    wanted = (torch.from_numpy(backwards), torch.tensor([1, 0]))
    with pytest.raises(EdgeFailed, match="on_edge must not come back from the edge"):
        connection.ask(Message(Kind.SPLIT, 7, wanted))
    connection.close()
    assert server.ended()


def test_a_device_that_vanishes_ends_the_work_for_it(network, serving):
    """What the edge works on for a device that is gone is not waited for."""
    server = serving()
    connection = EdgeConnection(server.host, server.port, network.split.digest, 1e6)
    on_edge = named(network.split.graph.at_exit(1), "edge-only").on_edge
    connection.ask(Message(Kind.SPLIT, 7, (torch.from_numpy(on_edge), torch.tensor([1, 0]))))
    connection.send(Message(Kind.FRAME, 0, (torch.tensor(7), network.inputs[0].reshape(-1))))
    time.sleep(0.2)  # it would sleep for many minutes
    connection.close()
    assert server.ended()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"device_factor": 0.5}, "device_factor must be at least 1, got 0.5"),
        ({"edge_factor": float("nan")}, "edge_factor must be finite"),
        ({"delay_s": -1.0}, "delay_s must not be negative, got -1.0"),
        ({"fps": 0.0}, "fps must be positive, got 0.0"),
        ({"curve": RateCurve.of([0, 1], [1e6, 0])}, "must not end with a rate of 0"),
    ],
)
def test_conditions_that_are_not_possible(given, message):
    with pytest.raises(ValueError, match=message):
        Conditions(**given)


# --- queues


@dataclass(frozen=True)
class Asleep:
    """Halves that take a known time, whatever else the machine does."""

    device_s: float
    edge_s: float
    bytes: int

    def front(self, inputs):
        time.sleep(self.device_s)
        return (torch.zeros(self.bytes, dtype=torch.uint8),)

    def back(self, sent):
        time.sleep(self.edge_s)
        return torch.zeros(1)

    @property
    def sent(self):
        return ()


def test_frames_with_changing_partitions_queue_as_predicted(serving):
    """Real queues against the simulator: device, link and edge, and raw frames that overtake."""
    halves = [
        Asleep(0.012, 0.004, 6_000),  # mostly on the device
        Asleep(0.0, 0.012, 12_000),  # raw
        Asleep(0.020, 0.0, 0),  # on the device alone
        Asleep(0.004, 0.008, 20_000),
    ]
    rows = np.array([[0, 0, 0, 1], [0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 1, 1]], dtype=bool)
    server = serving(Pretended("0" * 64, lambda on_edge, exit_: halves[exit_]))
    edge = EdgeConnection(server.host, server.port, "0" * 64)
    curve = RateCurve.of([0.0, 0.2, 0.3], [12e6, 4e6, 16e6])
    link = Link(edge.socket.sendall, curve, delay_s=0.003)
    partitions = [
        Partition(number=k, name=str(k), exit=k, on_edge=row, halves=halves[k])
        for k, row in enumerate(rows)
    ]
    assert [one.is_raw for one in partitions] == [False, True, False, False]
    for k in (0, 1, 3):
        wanted = (torch.from_numpy(rows[k]), torch.tensor([k, 0]))
        edge.ask(Message(Kind.SPLIT, k, wanted))
    rng = np.random.default_rng(2)
    which = rng.integers(4, size=60)
    gaps = np.cumsum(rng.exponential(0.014, size=60)).tolist()
    frames = [Frame(number=n, partition=partitions[k], inputs=()) for n, k in enumerate(which)]
    device = Device(edge, link, delay_s=0.003)
    device.run(frames, gaps, pipeline=True)
    link.close()
    edge.close()
    assert server.ended()
    # The device serves in order of arrival, but for raw frames, which pass.
    worked = [frame for frame in frames if not frame.partition.is_raw]
    assert all(b.begin >= a.ready for a, b in itertools.pairwise(worked))
    raw = [frame for frame in frames if frame.partition.is_raw]
    assert any(w.arrival < r.arrival < r.ready < w.ready for w in worked for r in raw)
    # The link is what the simulator makes of what reached it when, to a rounding.
    sent = [frame for frame in frames if frame.transfer is not None]
    ready, bits, start, finish = (
        np.array([getattr(frame.transfer, name) for frame in sent])
        for name in ("ready", "bits", "start", "finish")
    )
    began, ended = serve_by_readiness(ready - device.begin, bits, -np.inf, curve)
    np.testing.assert_allclose(start - device.begin, began, atol=1e-7)
    np.testing.assert_allclose(finish - device.begin, ended, atol=1e-7)
    # The edge serves one frame at a time, in the order in which the link has sent them.
    of_edge = [frame.moments(device.begin, 0.003) for frame in sent]
    of_edge = [of_edge[k] for k in np.argsort(finish)]
    assert all(b["edge_end"] >= a["edge_end"] for a, b in itertools.pairwise(of_edge))
    # A sleep on a busy machine is longer than asked for, and threads wake up late.
    costs = [
        Cost(
            device_s=frame.device_s,
            bits=frame.bits,
            edge_s=frame.edge_s,
            beside_s=0.0,
            round_trip_s=0.006,
            is_raw=frame.partition.is_raw,
        )
        for frame in frames
    ]
    predicted, ends = predict(costs, gaps, curve, pipeline=True)
    real = np.mean([frame.done - frame.arrival for frame in frames])
    told = np.mean([stages["total"] for stages in predicted])
    assert 0.95 * told < real < told + 0.06
    assert 0.95 * max(ends) < max(f.done for f in frames) - device.begin < max(ends) + 0.2


def test_frames_are_drawn_by_seed():
    like = (torch.zeros(2, 3), torch.zeros(4, dtype=torch.int64))
    first, second = random_frames(like, 2, seed=1)
    assert torch.equal(random_frames(like, 2, seed=1)[1][0], second[0])
    assert not torch.equal(first[0], second[0])
    assert first[1].dtype == torch.int64 and set(first[1].tolist()) <= {0, 1}


def test_layers_are_measured(network):
    times = measure_layers(network, repeats=3)
    assert [layer.name for layer in times.graph.layers] == [
        layer.name for layer in network.split.graph.layers
    ]
    assert seeded(Branches).first.weight.equal(network.module.first.weight)  # unchanged
