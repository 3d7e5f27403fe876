"""Traces as files: what is checked, what an error says, what survives."""

import contextlib
import dataclasses
import gc
import io
import pickle
import warnings
import zipfile

import numpy as np
import pytest
from harm import Harm
from target_problem import TargetProblem
from tiny_problem import HORIZON, MOST_SPEED, MOST_WORK, Slot, TinyProblem

import mec_gym
from mec_gym.core import arrays
from mec_gym.core.rollout import sample_episodes
from mec_gym.core.traces import check_trace, load_trace, save_trace

PROBLEM = TinyProblem()
TRACE = sample_episodes(PROBLEM, 0, 3)


# np.load leaves a damaged archive open; see test_a_damaged_file_is_closed.
leaks = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


def changed(**fields):
    return Slot(**{**arrays.as_dict(TRACE), **fields})


def spoilt(name, index, value):
    field = getattr(TRACE, name).copy()
    field[index] = value
    return changed(**{name: field})


def identical(one, other):
    return type(one) is type(other) and all(
        np.array_equal(a, b) and a.dtype == b.dtype
        for a, b in zip(arrays.as_dict(one).values(), arrays.as_dict(other).values(), strict=True)
    )


def test_a_trace_comes_back_bit_for_bit(tmp_path):
    path = tmp_path / "deep" / "down" / "trace"
    save_trace(path, TRACE)
    assert identical(load_trace(path, PROBLEM), TRACE)
    assert identical(load_trace(str(path), PROBLEM), TRACE)
    save_trace(str(path), spoilt("work", (1, 2), 5.0))
    assert load_trace(path, PROBLEM).work[1, 2] == 5.0
    assert [p.name for p in path.parent.iterdir()] == ["trace"]


def test_what_holds_during_a_whole_episode_is_kept_once(tmp_path):
    problem = TargetProblem()
    trace = sample_episodes(problem, 0, 3)
    assert trace.data.shape == (3, 1, 2)
    save_trace(tmp_path / "t.npz", trace)
    assert identical(load_trace(tmp_path / "t.npz", problem), trace)
    wide = dataclasses.replace(trace, data=np.repeat(trace.data, problem.horizon, axis=1))
    with pytest.raises(ValueError, match=r"trace\.data .*\(3, 1, 2\).*\(3, 6, 2\)"):
        check_trace(problem, wide)
    narrow = dataclasses.replace(trace, seconds=trace.seconds[:, :1])
    with pytest.raises(ValueError, match=r"trace\.seconds .*\(3, 6, 2\).*\(3, 1, 2\)"):
        check_trace(problem, narrow)
    # It is part of every slot, so an observation that cannot show it fails in the first.
    large = dataclasses.replace(trace, data=trace.data * [[[1.0]], [[-1.0]], [[1.0]]])
    with pytest.raises(ValueError, match=r"slot 0 of episode 1.*observation 2"):
        check_trace(problem, large)


@pytest.mark.parametrize("problem", [PROBLEM, TargetProblem()])
def test_a_single_episode_may_lack_the_axis_of_episodes(problem):
    trace = sample_episodes(problem, 3, 1)
    for episodes in (None, 1):
        assert identical(check_trace(problem, arrays.at(trace, 0), episodes=episodes), trace)
        assert identical(check_trace(problem, trace, episodes=episodes), trace)
    with pytest.raises(ValueError, match=r"trace"):
        check_trace(problem, arrays.at(trace, 0), episodes=2)
    # Not of some of its fields only.
    first = arrays.field_names(type(trace))[0]
    mixed = dataclasses.replace(trace, **{first: getattr(trace, first)[0]})
    with pytest.raises(ValueError, match=r"first axis|shape"):
        check_trace(problem, mixed, episodes=1)


def test_the_public_names_are_these():
    assert (mec_gym.save_trace, mec_gym.load_trace) == (save_trace, load_trace)


BROKEN = {
    "nan": (spoilt("work", (2, 1), np.nan), "trace.work must be finite"),
    "inf": (spoilt("speed", (0, 1, 1), -np.inf), "trace.speed must be finite"),
    "too much work": (
        spoilt("work", (1, 3), MOST_WORK * 1.5),
        r"slot 3 of episode 1 .* observation 2 would be 1\.5, allowed is \[0\.0, 1\.0\]",
    ),
    "too fast": (spoilt("speed", (2, 0, 1), MOST_SPEED * 2), "slot 0 of episode 2.*observation 4"),
    "negative": (spoilt("speed", (0, 4, 0), -0.5), "slot 4 of episode 0.*observation 3"),
    "too long": (changed(length=TRACE.length * 0 + HORIZON + 1), "observation 1 would be 1.2"),
    "short": (
        changed(work=TRACE.work[:, :-1]),
        rf"trace.work must have shape \(3, {HORIZON}\), got \(3, {HORIZON - 1}\)",
    ),
    "three machines": (
        changed(speed=np.ones((3, HORIZON, 3))),
        rf"trace.speed must have shape \(3, {HORIZON}, 2\), got \(3, {HORIZON}, 3\)",
    ),
    "one slot without axes": (
        arrays.at(TRACE, (0, 0)),
        r"first axis|trace\.\w+ must have shape",
    ),
    "unequal numbers of episodes": (changed(length=TRACE.length[:2]), "share their first axis"),
    "a number": (changed(work=np.array(1.0)), "share their first axis"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_check_trace_says_what_is_wrong(name, tmp_path):
    trace, message = BROKEN[name]
    with pytest.raises(ValueError, match=message):
        check_trace(PROBLEM, trace)
    save_trace(tmp_path / "t.npz", trace)
    with pytest.raises(ValueError, match=message):
        load_trace(tmp_path / "t.npz", PROBLEM)


def test_check_trace_counts_and_knows_its_own_kind():
    check_trace(PROBLEM, TRACE)
    check_trace(PROBLEM, TRACE, episodes=3)
    with pytest.raises(ValueError, match=r"must hold 2 episode\(s\).*got 3"):
        check_trace(PROBLEM, TRACE, episodes=2)
    paper = mec_gym.make_problem("mec/TrainingOffloadPaper-v0")
    other = paper.sample(np.random.default_rng(0), 3)
    with pytest.raises(ValueError, match=r"tiny_problem\.Slot.*training_offload\.scenario\.Slot"):
        check_trace(PROBLEM, other)
    for nothing in ("trace.npz", 5, {"work": 1}):
        with pytest.raises(ValueError, match="trace must be"):
            check_trace(PROBLEM, nothing)
    drive = mec_gym.make_problem("mec/TrainingOffload-v0")
    with pytest.raises(ValueError, match=r"trace\.work must have shape \(3, 30\), got \(3, 1\)"):
        check_trace(drive, other)


@pytest.mark.parametrize("value", ["a", None])
def test_fields_that_hold_no_numbers(value):
    with pytest.raises(ValueError, match="work"):
        check_trace(PROBLEM, changed(work=np.full((3, HORIZON), value)))


def test_another_problems_file(tmp_path):
    paper = mec_gym.make_problem("mec/TrainingOffloadPaper-v0")
    save_trace(tmp_path / "t.npz", paper.sample(np.random.default_rng(0), 1))
    with pytest.raises(ValueError, match=r"t\.npz holds a .*scenario\.Slot.*tiny_problem\.Slot"):
        load_trace(tmp_path / "t.npz", PROBLEM)
    # A drive's trace is of the same type as the paper's, but of another horizon.
    drive = mec_gym.make_problem("mec/TrainingOffload-v0")
    with pytest.raises(ValueError, match=r"shape \(1, 30\)"):
        load_trace(tmp_path / "t.npz", drive)


def test_a_drive_with_servers_faster_than_the_scenario_knows():
    drive = mec_gym.make_problem("mec/TrainingOffload-v0")
    trace = drive.sample(np.random.default_rng(0), 2)
    trace.uplink[1, 7, 0, 2] = drive.scenario.largest_rate * 1.01
    with pytest.raises(ValueError, match=r"slot 7 of episode 1.*observation 8"):
        check_trace(drive, trace)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_trace(tmp_path / "none.npz", PROBLEM)


@leaks
def test_files_that_are_no_traces(tmp_path):
    path = tmp_path / "t.npz"
    for content in (b"", b"hello", b"PK\x03\x04", b"\x93NUMPY"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"t\.npz is not a readable trace file"):
            load_trace(path, PROBLEM)
    with pytest.raises(ValueError, match="is not a readable trace file"):
        load_trace(tmp_path, PROBLEM)
    np.savez(path, work=np.ones(3))
    with pytest.raises(ValueError, match="not a trace file of format 'mec_gym trace 1'"):
        load_trace(path, PROBLEM)
    np.savez(path, _format=np.array("mec_gym trace 2"), **arrays.as_dict(TRACE))
    with pytest.raises(ValueError, match="not a trace file of format"):
        load_trace(path, PROBLEM)
    np.savez(path, _format=np.array(["x"], dtype=object))
    with pytest.raises(ValueError, match="is not a readable trace file"):
        load_trace(path, PROBLEM)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no arrays here")
    with pytest.raises(ValueError, match="not a trace file"):
        load_trace(path, PROBLEM)


def test_a_plain_array_is_no_trace(tmp_path):
    np.save(tmp_path / "t.npy", np.ones(3))
    with pytest.raises(ValueError, match=r"t\.npy"):
        load_trace(tmp_path / "t.npy", PROBLEM)


def test_missing_fields_are_named(tmp_path):
    path = tmp_path / "t.npz"
    kept = {"work": TRACE.work, "_format": "mec_gym trace 1", "_kind": "tiny_problem.Slot"}
    np.savez(path, **kept)
    with pytest.raises(ValueError, match=r"t\.npz lacks the fields length, speed"):
        load_trace(path, PROBLEM)


@leaks
def test_a_truncated_file_is_a_value_error(tmp_path):
    path = tmp_path / "t.npz"
    save_trace(path, TRACE)
    content = path.read_bytes()
    for end in range(0, len(content), 13):
        path.write_bytes(content[:end])
        with pytest.raises(ValueError, match=r"t\.npz is not a readable trace file"):
            load_trace(path, PROBLEM)


def test_a_damaged_file_is_closed(tmp_path):
    path = tmp_path / "t.npz"
    path.write_bytes(b"PK\x03\x04")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with contextlib.suppress(ValueError):
            load_trace(path, PROBLEM)
        gc.collect()
    assert [str(w.message) for w in caught] == []


def outcome_of_flips(tmp_path, places):
    """Errors of files with one byte inverted; a file that loads must hold the same trace."""
    path = tmp_path / "t.npz"
    save_trace(path, TRACE)
    content = path.read_bytes()
    found = set()
    for place in places(content):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        path.write_bytes(bytes(damaged))
        try:
            assert identical(load_trace(path, PROBLEM), TRACE)
        except Exception as error:
            found.add(type(error))
    return found


def test_a_damaged_checksum_is_a_value_error(tmp_path):
    def checksums(content):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            stored = [info.CRC.to_bytes(4, "little") for info in archive.infolist()]
        return [content.index(crc, content.index(b"PK\x01\x02")) for crc in stored]

    assert outcome_of_flips(tmp_path, checksums) == {ValueError}


@leaks
def test_any_damaged_byte_is_a_value_error_or_harmless(tmp_path):
    assert outcome_of_flips(tmp_path, lambda content: range(0, len(content), 3)) == {ValueError}


def test_an_older_file_survives_a_save_that_fails(tmp_path, monkeypatch):
    path = tmp_path / "t.npz"
    save_trace(path, TRACE)
    before = path.read_bytes()

    def half(file, **fields):
        file.write(before[: len(before) // 2])
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez_compressed", half)
        with pytest.raises(OSError, match="no space"):
            save_trace(path, spoilt("work", (0, 0), 2.0))
    assert path.read_bytes() == before
    assert identical(load_trace(path, PROBLEM), TRACE)
    save_trace(path, spoilt("work", (0, 0), 2.0))
    assert load_trace(path, PROBLEM).work[0, 0] == 2.0
    assert [p.name for p in tmp_path.iterdir()] == ["t.npz"]


def test_nothing_is_pickled(tmp_path):
    with pytest.raises(ValueError, match=r"[Oo]bject arrays"):
        save_trace(tmp_path / "t.npz", changed(work=np.full((3, HORIZON), None)))
    assert not (tmp_path / "t.npz").exists()


@leaks
def test_a_trace_runs_no_code(tmp_path):
    """Neither as a whole nor in any of its fields, those included that only describe it."""
    path, harm = tmp_path / "t.npz", Harm(tmp_path / "harm")
    save_trace(path, TRACE)
    with np.load(path) as found:
        fields = dict(found)
    assert {"_format", "_kind", "work"} <= set(fields)
    path.write_bytes(pickle.dumps(harm))
    with pytest.raises(ValueError, match=r"t\.npz is not a readable trace"):
        load_trace(path, PROBLEM)
    for name in fields:
        np.savez(path, **{**fields, name: np.array([harm], dtype=object)})
        with pytest.raises(ValueError, match=r"t\.npz is not a readable trace") as told:
            load_trace(path, PROBLEM)
        assert "\n" not in str(told.value)
    harm.check_that_it_works()


def test_what_env_trace_returns_is_saved_and_loaded_as_one_episode(tmp_path):
    problem = TinyProblem()
    env = mec_gym.MecEnv(problem)
    env.reset(seed=3)
    save_trace(tmp_path / "one.npz", env.trace)
    loaded = load_trace(tmp_path / "one.npz", problem)
    drawn = sample_episodes(problem, 3, 1)
    for name, field in arrays.as_dict(loaded).items():
        np.testing.assert_array_equal(field, getattr(drawn, name))
    observation, _ = mec_gym.MecEnv(problem).reset(options={"trace": loaded})
    np.testing.assert_array_equal(observation, env.reset(seed=3)[0])
