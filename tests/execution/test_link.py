"""A link hands on what a link with that rate would have sent by then, in the order of arrival."""

import threading
import time

import pytest
import torch

from mec_gym.execution.clock import Stopped, now, sleep_until, work_at
from mec_gym.execution.link import CHUNK, Link
from mec_gym.network.tandem import RateCurve

LATE = 0.05  # a busy machine wakes up late; it never wakes up early


class Sink:
    """Notes when bytes come."""

    def __init__(self):
        self.came = []

    def __call__(self, piece):
        self.came.append((now(), len(piece)))

    def until(self, count):
        """When the first so many bytes had come."""
        total = 0
        for moment, length in self.came:
            total += length
            if total >= count:
                return moment
        raise AssertionError(f"only {total} bytes came")


def message(size, head=40):
    return [memoryview(bytes(head)), memoryview(bytes(size - head))]


@pytest.fixture
def linked():
    opened = []

    def build(curve, delay_s=0.0, send=None):
        sink = send or Sink()
        opened.append(Link(sink, curve, delay_s))
        return opened[-1], sink

    yield build
    for link in opened:
        link.close()


def test_transfers_wait_for_each_other_and_delays_overlap(linked):
    link, sink = linked(RateCurve.of([0.0], [8e6]), delay_s=0.12)  # a byte per microsecond
    begin = now() + 0.01
    link.begin(begin)
    sizes, ready = (30_000, 10_000, 20_000), (0.0, 0.005, 0.07)
    transfers = [link.put(message(n), begin + r) for n, r in zip(sizes, ready, strict=True)]
    expected = [(0.0, 0.03), (0.03, 0.04), (0.07, 0.09)]
    for transfer, (start, finish), size in zip(transfers, expected, sizes, strict=True):
        assert transfer.over.wait(5) and transfer.error is None
        assert transfer.bits == 8 * size
        assert transfer.start - begin == pytest.approx(start, abs=1e-9)
        assert transfer.finish - begin == pytest.approx(finish, abs=1e-9)
        assert 0.12 <= transfer.passed - begin - finish < 0.12 + LATE
    assert sum(length for _, length in sink.came) == sum(sizes)
    assert sink.came[0][0] - begin >= 0.15  # the delay of the first


def test_the_rate_is_integrated_through_changes_and_outages(linked):
    # 1 Mbyte/s for 20 ms, nothing for 30 ms, then 2 Mbyte/s: 50 kbyte take 20 + 30 + 15 ms.
    link, sink = linked(RateCurve.of([0.0, 0.02, 0.05], [8e6, 0.0, 16e6]))
    begin = now() + 0.01
    link.begin(begin)
    transfer = link.put(message(50_000), begin)
    late = link.put(message(2_000), begin + 0.03)  # in the outage
    assert late.over.wait(5)
    assert transfer.finish - begin == pytest.approx(0.065, abs=1e-9)
    assert late.start - begin == pytest.approx(0.065, abs=1e-9)
    assert late.finish - begin == pytest.approx(0.066, abs=1e-9)
    assert 0.065 <= sink.until(50_000) - begin < 0.065 + LATE


def test_large_transfers_trickle(linked):
    link, sink = linked(RateCurve.of([0.0], [8e6]))
    begin = now()
    link.begin(begin)
    link.put(message(2 * CHUNK + 1_000), begin).over.wait(5)
    lengths = [0]
    for _, length in sink.came:
        lengths.append(lengths[-1] + length)
    assert lengths[-1] == 2 * CHUNK + 1_000
    for bytes_ in (CHUNK, 2 * CHUNK, lengths[-1]):
        assert bytes_ in lengths  # the head counts to the first piece
        assert 0 <= sink.until(bytes_) - begin - bytes_ / 1e6 < LATE


def test_errors_do_not_add_up(linked):
    """The fiftieth transfer ends when fifty take, however late each wake-up was."""
    link, sink = linked(RateCurve.of([0.0], [8e6]))
    begin = now()
    link.begin(begin)
    transfers = [link.put(message(2_000), begin) for _ in range(50)]
    assert transfers[-1].over.wait(5)
    assert transfers[-1].finish - begin == pytest.approx(0.1, abs=1e-9)
    assert 0.1 <= sink.until(100_000) - begin < 0.1 + LATE


def test_a_link_without_a_rate_sends_at_once(linked):
    link, _ = linked(None, delay_s=0.03)
    first, second = link.put(message(1_000)), link.put(message(1_000))
    assert second.over.wait(5)
    assert 0.03 <= first.passed - first.ready < 0.03 + LATE
    assert second.passed - second.ready < 0.03 + LATE  # not twice the delay


def test_what_fails_is_told(linked):
    def broken(piece):
        raise BrokenPipeError("gone")

    link, _ = linked(None, send=broken)
    transfer = link.put(message(100))
    assert transfer.over.wait(5)
    assert isinstance(transfer.error, BrokenPipeError) and transfer.passed is None


def test_closing_drops_what_is_under_way(linked):
    link, sink = linked(RateCurve.of([0.0], [8.0]))  # a byte per second
    link.begin(now())
    transfers = [link.put(message(100)) for _ in range(2)]
    begin = now()
    link.close()
    assert now() - begin < 2
    assert all(isinstance(transfer.error, Stopped) for transfer in transfers)
    assert not sink.came


def test_waits_end_late_or_not_at_all():
    moment = now() + 0.03
    sleep_until(moment)
    assert 0 <= now() - moment < LATE
    begin = now()
    sleep_until(begin - 1)
    assert now() - begin < LATE
    stop = threading.Event()
    threading.Timer(0.05, stop.set).start()
    with pytest.raises(Stopped):
        sleep_until(now() + 60, stop)
    assert now() - begin < 5


def test_a_slower_processor_waits_by_its_own_cpu_time():
    def work():
        time.sleep(0.02)  # takes no CPU time
        begin = time.thread_time()
        while time.thread_time() - begin < 0.01:
            torch.ones(10).sum()
        return 7

    slow = work_at(8.0, work)
    assert slow.value == 7 and 0.01 <= slow.cpu_s < 0.025
    assert slow.end - slow.begin >= 8 * slow.cpu_s
    assert slow.end - slow.begin < 8 * slow.cpu_s + LATE
    same = work_at(1.0, work)
    assert same.end - same.begin >= 0.03
