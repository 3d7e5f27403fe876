"""A server and its clients played event by event, in plain Python, without any learning.

It is written from the design notes of the problem, and uses nothing of the package but the fields
of a scenario and of a trace:

    Of the idle and present clients with a score above 0, the best fill the free rows.
    A job is a download, b / down; computing, 3 F E B jitter, through a speed that varies; and an
    upload, b through a rate that varies. Who leaves before the end is lost at that moment.
    The server waits for the K-th arrival, until nobody is on their way, or for the deadline.
    It merges what has arrived, which takes time; a row is taken until the server looks at it.
    Late ones fly on, or are forgotten; nobody tells them, so they spend their whole energy.
    Who is on the way when the episode ends is dropped.
"""

import math
from dataclasses import dataclass, field

import simpy


@dataclass
class Job:
    """One client on its way."""

    client: int
    version: int
    begin: float
    steps: int
    computed_s: float = 0.0
    sent_s: float = 0.0
    sends: bool = False
    end: float = math.nan
    lost: bool = False

    @property
    def ended(self):
        return not math.isnan(self.end)


@dataclass
class Step:
    """What one step comes to."""

    sent_off: list
    clock: float = math.nan
    merged: dict = field(default_factory=dict)  # client -> staleness
    durations: dict = field(default_factory=dict)  # of those that are merged
    lost: list = field(default_factory=list)
    dropped: list = field(default_factory=list)
    flying: list = field(default_factory=list)
    jobs: list = field(default_factory=list)
    over: bool = False


class Fleet:
    """Clients whose jobs are processes, which are interrupted when the client leaves."""

    def __init__(self, world, s, nature):
        self.world, self.s, self.nature = world, s, nature
        self.news = world.event()  # somebody has arrived, or is lost

    def bin_of(self, time):
        # Sums of waiting times may end a rounding before the edge that is meant.
        return min(int(time / self.s.bin_s + 1e-9), self.nature.present.shape[-1] - 1)

    def through(self, rates, amount):
        """Let an amount pass, bin by bin."""
        number = self.bin_of(self.world.now)
        while True:
            rest = (number + 1) * self.s.bin_s - self.world.now
            if number == len(rates) - 1 or amount <= rates[number] * rest:
                yield self.world.timeout(amount / rates[number])
                return
            amount -= rates[number] * rest
            yield self.world.timeout(rest)
            number += 1

    def work(self, job, jitter):
        s, nature, who = self.s, self.nature, job.client
        doing, since = "receive", self.world.now
        try:
            yield self.world.timeout(s.model_bits / nature.downlink[who])
            doing, since = "compute", self.world.now
            flop = 3 * s.forward_flop * job.steps * s.batch * jitter
            yield from self.through(nature.speed[who], flop)
            job.computed_s = self.world.now - since
            doing, since = "send", self.world.now
            job.sends = True
            yield from self.through(nature.uplink[who], s.model_bits)
            job.sent_s = self.world.now - since
        except simpy.Interrupt:
            job.lost = True
            if doing == "compute":
                job.computed_s = self.world.now - since
            elif doing == "send":
                job.sent_s = self.world.now - since
        job.end = self.world.now
        self.news.succeed()
        self.news = self.world.event()

    def watch(self, job, process):
        """Interrupt a job as soon as its client is absent."""
        for number in range(self.bin_of(job.begin) + 1, self.nature.present.shape[-1]):
            if not self.nature.present[job.client, number]:
                yield self.world.timeout(number * self.s.bin_s - self.world.now)
                if process.is_alive:
                    process.interrupt()
                return

    def send_off(self, job, jitter):
        process = self.world.process(self.work(job, jitter))
        self.world.process(self.watch(job, process))


def play(s, nature, jitter, scores, steps):
    """Play one episode.

    Args:
        s: The scenario; its deadline, quorum and so on count.
        nature: The tables of one episode, without the axes of a trace.
        jitter: (T, N), the factor of the work of a job.
        scores: (T, N), what the agent plays.
        steps: (T, N), the minibatches of a client that is sent off.

    Returns:
        One Step per decision, until the episode is over.
    """
    world = simpy.Environment()
    fleet = Fleet(world, s, nature)
    log = []

    def server():
        rows, version = [], 0
        for t in range(s.decisions):
            begin = world.now
            away = {job.client for job in rows}
            present = nature.present[:, fleet.bin_of(begin)]
            willing = [
                i for i in range(s.clients) if present[i] and i not in away and scores[t, i] > 0
            ]
            willing.sort(key=lambda i: (-scores[t, i], i))
            step = Step(sent_off=sorted(willing[: s.at_once - len(rows)]))
            log.append(step)
            for i in step.sent_off:
                job = Job(i, version, begin, int(steps[t, i]))
                rows.append(job)
                step.jobs.append(job)
                fleet.send_off(job, jitter[t, i])
            if not rows:
                yield world.timeout(s.idle_s)
            bell = world.timeout(math.inf if s.deadline is None else s.deadline)
            while rows:
                arrived = sum(job.ended and not job.lost for job in rows)
                if arrived >= s.quorum or all(job.ended for job in rows) or bell.processed:
                    break
                yield fleet.news | bell
            arrived = [job for job in rows if job.ended and not job.lost]
            step.lost = sorted(job.client for job in rows if job.lost)
            if arrived and world.now + s.server_s <= s.budget_s:
                for job in arrived:
                    if version - job.version <= s.max_staleness:
                        step.merged[job.client] = version - job.version
                        step.durations[job.client] = job.end - job.begin
                    else:
                        step.dropped.append(job.client)
                yield world.timeout(s.server_s)
                # Who arrives while the server merges is looked at in the next step.
                rows = [job for job in rows if not (job in arrived or job.client in step.lost)]
                version += bool(step.merged)
            else:
                step.dropped += [job.client for job in arrived]
                rows = [job for job in rows if not job.ended]
            if s.late == "drop":
                step.dropped += [job.client for job in rows]
                rows = []
            step.flying = sorted(job.client for job in rows)
            step.clock = min(world.now, s.budget_s)
            step.over = step.clock >= s.budget_s or t == s.decisions - 1
            if step.over:
                step.dropped += step.flying
            step.dropped.sort()
            if step.over:
                return

    world.process(server())
    world.run()
    return log
