"""Devices that train and send, played event by event in plain Python, without any learning.

It is written from the design notes of the problem, and uses nothing of the package but the fields
of a scenario and of a trace:

    Each device trains, and then sends to all of its listeners through its one uplink.
    What a speaker sends has arrived when all of it is sent; a listener waits for all its speakers.
    Where sending overlaps with training, the uplink begins when the round does.
    An uplink sends one round after the other, also if its device has gone on.
    A ring all-reduce of A devices has 2 (A - 1) turns, in each of which everybody sends a part of
    A to the next one; a turn ends with its slowest device. It begins when all have trained
    and all uplinks are free.
    Devices whose clock has passed the budget are out.
    Of compressed differences a listener is sent all that it lacks, but no more than the model.
"""

from dataclasses import dataclass

import simpy


@dataclass
class Round:
    """What one round comes to."""

    clock: list
    active: list
    heard: list  # (listener, speaker)
    bits: float
    waited: float  # all devices together


def play_gossip(now, compute_s, rate, heard, bits, overlap, free):
    """One round of those who are in it; when each is done, by device.

    Args:
        now: Clocks of those who take part, by device.
        compute_s: How long each device trains.
        rate: At what rate each device sends.
        heard: Pairs of listener and speaker.
        bits: What is sent, by pair.
        overlap: Whether the model of the round before is sent.
        free: When each uplink is free; those of speakers change.
    """
    world = simpy.Environment()
    trained = {i: world.event() for i in now}
    sent = {i: world.event() for i in now}
    done = {}

    def train(i):
        yield world.timeout(now[i])
        yield world.timeout(compute_s[i])
        trained[i].succeed()

    def upload(uplink, i, amount):
        with uplink.request() as turn:
            yield turn
            yield world.timeout(amount / rate[i])

    def send(i):
        yield world.timeout(now[i]) if overlap else trained[i]
        yield world.timeout(max(free[i] - world.now, 0.0))
        uplink = simpy.Resource(world, capacity=1)
        yield world.all_of(
            [world.process(upload(uplink, i, bits[pair])) for pair in heard if pair[1] == i]
        )
        sent[i].succeed()
        if any(speaker == i for _, speaker in heard):
            free[i] = world.now

    def listen(i):
        yield trained[i]
        for listener, speaker in heard:
            if listener == i and not sent[speaker].processed:
                yield sent[speaker]
        done[i] = world.now

    for i in now:
        for process in (train, send, listen):
            world.process(process(i))
    world.run()
    return done


def play_all_reduce(now, compute_s, rate, bits, free):
    """One all-reduce of those who are in it: when it is done, and what was sent."""
    world = simpy.Environment()
    sent = []

    def train(i):
        yield world.timeout(max(now[i] + compute_s[i], free[i]))

    def turn(i):
        yield world.timeout(bits / len(now) / rate[i])
        sent.append(bits / len(now))

    def everybody():
        yield world.all_of([world.process(train(i)) for i in now])
        for _ in range(2 * (len(now) - 1)):
            yield world.all_of([world.process(turn(i)) for i in now])

    world.process(everybody())
    world.run()
    free.update(dict.fromkeys(now, world.now))
    return world.now, sum(sent)


def play(s, edges, compute_s, rate, reduce, listen, bits, whole):
    """Play one episode.

    Args:
        s: The scenario; its budget, payload and so on count.
        edges: Pairs of listener and speaker.
        compute_s: (T, N).
        rate: (T, N).
        reduce: (T,), whether all average all.
        listen: (T, E), whether each edge is used.
        bits: What a speaker sends to a listener; of compressed differences, one of them.
        whole: What an all-reduce averages, bit.

    Returns:
        One Round per round, until the episode is over.
    """
    clock, log = [0.0] * s.devices, []
    free = dict.fromkeys(range(s.devices), 0.0)
    made = [0] * s.devices  # compressed differences that each device has made
    known = dict.fromkeys(edges, 0)  # up to which of them each listener knows its speaker's
    for t in range(s.rounds):
        now = {i: at for i, at in enumerate(clock) if at < s.budget_s}
        heard = []
        if not reduce[t]:
            used = [edge for edge, is_used in zip(edges, listen[t], strict=True) if is_used]
            heard = [edge for edge in used if set(edge) <= set(now)]
        for i in now:
            made[i] += 1
        amount = dict.fromkeys(heard, bits)
        if s.payload == "choco":
            for edge in heard:
                lacks = made[edge[1]] - known[edge]
                amount[edge] = min(lacks * bits, s.model_bits)
                known[edge] = made[edge[1]]
        if reduce[t]:
            end, total = play_all_reduce(now, compute_s[t], rate[t], whole, free)
            done = dict.fromkeys(now, end)
        else:
            done = play_gossip(now, compute_s[t], rate[t], heard, amount, s.overlap, free)
            total = sum(amount.values())
        waited = sum(done[i] - now[i] - compute_s[t][i] for i in now)
        clock = [done.get(i, at) for i, at in enumerate(clock)]
        log.append(Round(clock, list(now), heard, total, waited))
        if all(at >= s.budget_s for at in clock):
            break
    return log
