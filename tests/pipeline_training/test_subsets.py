import itertools

import numpy as np
import pytest

from mec_gym.pipeline_training import subsets
from mec_gym.pipeline_training.subsets import MOST_DEVICES, least_period


def every_placement(blocks, devices):
    """Every way to cut a chain into stages and to give each its own of some devices."""
    for stages in range(1, min(blocks, len(devices)) + 1):
        for cuts in itertools.combinations(range(1, blocks), stages - 1):
            lengths = np.diff([0, *cuts, blocks])
            for chosen in itertools.permutations(devices, stages):
                yield [v for v, length in zip(chosen, lengths, strict=True) for _ in range(length)]


def period_of(place, work, bits, speed, link):
    """The longest that anything is busy per microbatch: devices, and links each way."""
    busy = {}
    for block, v in enumerate(place):
        busy[v] = busy.get(v, 0.0) + work[block] / speed[v]
    for block in range(1, len(place)):
        u, v = place[block - 1], place[block]
        if u != v:
            busy[u, v] = bits[block] / link[u, v]
            busy[v, u] = bits[block] / link[v, u]
    return max(busy.values())


def draw(rng, blocks, devices, batch=()):
    """A random instance; sending takes about as long as computing."""
    return (
        rng.uniform(1, 10, size=blocks),
        rng.uniform(1, 10, size=blocks + 1),
        rng.uniform(0.5, 4, size=(*batch, devices)),
        rng.uniform(0.3, 6, size=(*batch, devices, devices)),
        rng.random((*batch, devices)) < 0.8,
    )


def test_equals_trying_every_placement():
    rng = np.random.default_rng(0)
    stages, nobody = set(), 0
    for _ in range(150):
        blocks, devices = rng.integers(1, 7), rng.integers(1, 5)
        work, bits, speed, link, present = draw(rng, blocks, devices)
        period, place = least_period(work, bits, speed, link, present)
        assert period.shape == () and place.shape == (blocks,) and place.dtype == np.int64
        if not present.any():
            assert period == np.inf and (place == -1).all()
            nobody += 1
            continue
        tried = {
            tuple(p): period_of(p, work, bits, speed, link)
            for p in every_placement(blocks, np.flatnonzero(present))
        }
        assert period == pytest.approx(min(tried.values()), rel=1e-12)
        assert tried[tuple(place)] == pytest.approx(period, rel=1e-12)  # valid, and as good
        stages.add(len(set(place)))
    assert stages == {1, 2, 3, 4} and nobody > 3


def test_both_directions_of_a_link_count_and_the_slower_one_decides():
    # Devices as fast as each other: 3 + 3 s. The cut sends 8 bit: 2 s one way, 4 s the other.
    work, bits = np.array([3.0, 3.0]), np.array([100.0, 8.0, 100.0])
    speed, present = np.ones(2), np.ones(2, dtype=bool)
    for link in ([[0, 4], [2, 0]], [[0, 2], [4, 0]]):
        period, place = least_period(work, bits, speed, np.array(link), present)
        assert period == 4
        assert sorted(place) == [0, 1]
    # At 1 bit/s the gradient takes 8 s: better both blocks on one device.
    period, place = least_period(work, bits, speed, np.array([[0, 4], [1, 0]]), present)
    assert period == 6
    assert place.tolist() == [0, 0]


def test_the_diagonal_of_the_links_and_what_enters_and_leaves_do_not_count():
    rng = np.random.default_rng(1)
    work, bits, speed, link, _ = draw(rng, 5, 3)
    present = np.ones(3, dtype=bool)
    period, place = least_period(work, bits, speed, link, present)
    bits[[0, -1]] = 1e9
    np.fill_diagonal(link, 0.0)
    again, same = least_period(work, bits, speed, link, present)
    assert again == period and (same == place).all()
    assert len(set(place)) > 1


def test_nothing_that_is_absent_or_at_a_standstill_is_used():
    rng = np.random.default_rng(2)
    work, bits, speed, link, _ = draw(rng, 5, 4)
    everybody = np.ones(4, dtype=bool)
    some = np.array([True, False, True, True])
    fast = np.where(some, speed, 1e9)
    expected, where = least_period(work, bits, speed[some], link[np.ix_(some, some)], some[some])
    still = np.where(some, speed, 0.0)
    cut_off = np.where(some & some[:, None], link, 0.0)
    for s, b, p in ((fast, link, some), (still, link, everybody)):
        period, place = least_period(work, bits, s, b, p)
        assert period == expected
        assert place.tolist() == np.flatnonzero(some)[where].tolist()
    # A fast device without links may only hold everything.
    period, place = least_period(work, bits, np.where(some, speed, 1e-9), cut_off, everybody)
    assert period == expected
    period, place = least_period(work, bits, fast, cut_off, everybody)
    assert place.tolist() == [1] * 5


def test_of_equal_periods_the_fewest_stages():
    # The last block alone takes as long as anything, so the others may stay together.
    work, bits = np.array([1.0, 1.0, 1.0, 9.0]), np.zeros(5)
    period, place = least_period(work, bits, np.ones(4), np.ones((4, 4)), np.ones(4, dtype=bool))
    assert period == 9
    assert len(set(place)) == 2 and len(set(place[:3])) == 1
    # The last device alone takes as long as the other two together.
    speed = np.array([1.0, 1.0, 2.0])
    work, bits, present = np.array([3.0, 3.0]), np.zeros(3), np.ones(3, dtype=bool)
    period, place = least_period(work, bits, speed, np.ones((3, 3)), present)
    assert period == 3
    assert place.tolist() == [2, 2]


@pytest.mark.parametrize("most_entries", [1, 1_000_000])
def test_a_batch_equals_its_rows(monkeypatch, most_entries):
    monkeypatch.setattr(subsets, "_MOST_ENTRIES", most_entries)
    rng = np.random.default_rng(3)
    work, bits, speed, link, present = draw(rng, 5, 4, batch=(3, 7))
    present[1, 2] = False
    period, place = least_period(work, bits, speed, link, present)
    assert period.shape == (3, 7) and place.shape == (3, 7, 5)
    for i in np.ndindex(3, 7):
        one, where = least_period(work, bits, speed[i], link[i], present[i])
        assert one == period[i] and (where == place[i]).all()
    assert np.isinf(period[1, 2]) and np.isfinite(period).sum() > 15
    # Loads differ, too, and broadcast against devices.
    loads = work * rng.uniform(0.5, 2, size=(3, 1, 5))
    period, place = least_period(loads, bits, speed, link, present)
    for i in np.ndindex(3, 7):
        one, where = least_period(loads[i[0], 0], bits, speed[i], link[i], present[i])
        assert one == period[i] and (where == place[i]).all()


def test_no_episodes():
    work, bits, speed, link, present = draw(np.random.default_rng(4), 3, 2, batch=(0,))
    period, place = least_period(work, bits, speed, link, present)
    assert period.shape == (0,) and place.shape == (0, 3)


def test_what_does_not_fit_is_refused():
    work, bits, speed, link, present = draw(np.random.default_rng(5), 3, 2)
    with pytest.raises(ValueError, match=r"bits .*\(4,\).*\(3,\)"):
        least_period(work, bits[1:], speed, link, present)
    with pytest.raises(ValueError, match=r"link .*\(2, 2\).*\(2, 1\)"):
        least_period(work, bits, speed, link[:, :1], present)
    with pytest.raises(ValueError, match=r"present .*\(2,\).*\(1,\)"):
        least_period(work, bits, speed, link, present[:1])
    many = draw(np.random.default_rng(5), 3, MOST_DEVICES + 1)
    with pytest.raises(ValueError, match=rf"^devices .*{MOST_DEVICES} .*{MOST_DEVICES + 1}$"):
        least_period(*many)
