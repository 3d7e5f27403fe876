"""``mec-gym execute`` and ``mec-gym edge``: what they write, print and refuse; two processes."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from mec_gym.dnn.zoo import load_profile
from mec_gym.execution.device import Frame
from mec_gym.execution.edge import LOOPBACK, listen, serve
from train.__main__ import main
from train.execute import Wanted
from train.execute_config import ExecuteRun
from train.execute_policy import offered
from train.execute_report import disturbances

ROOT = Path(__file__).resolve().parents[2]
NETWORK = f"{ROOT / 'tests' / 'executed.py'}:branches"
GIVEN = [NETWORK, "--input", "1,3,12,12"]
POLICY = ["--pipeline", "--fps", "10", "--policy"]
DECIDED = {"policy": "exact", "pipeline": True, "fps": 5.0}
STAGES = ("waiting", "device", "link", "round_trip", "edge", "total")


@pytest.fixture(scope="module")
def wanted():
    return Wanted(NETWORK, ((1, 3, 12, 12),), ("float32",)).build()


@pytest.fixture
def served(wanted):
    """The address of an edge server in a thread, for one device."""
    listener = listen(LOOPBACK, 0)
    port = listener.getsockname()[1]
    thread = threading.Thread(target=serve, args=(listener, wanted), daemon=True)
    thread.start()
    yield f"{LOOPBACK}:{port}"
    thread.join(10)
    assert not thread.is_alive()


def execute(capsys, *options):
    status = main(["execute", *GIVEN, *map(str, options)])
    return status, capsys.readouterr()


def test_one_partition(served, tmp_path, capsys):
    out = tmp_path / "x"
    options = ["--edge", served, "--out", out, "--partition", "after:first", "--rate", 2]
    options += ["--frames", 3, "--delay", 5, "--device-factor", 2, "--repeats", 3]
    status, said = execute(capsys, *options)
    assert status == 0, said.err
    words = " ".join(said.out.split())
    assert "1 of 8 layers on the device" in words and "medians of 3 frames" in words
    assert "3 of 3 equal those of the network not split, bit for bit" in words
    assert "emulated: the link's rate, 2 Mbit/s" in words
    assert "the link's delay, 5 ms each way" in words
    assert "a device 2 times slower: it sleeps until begin + 2 x own CPU time" in words
    result = json.loads((out / "result.json").read_text())
    (run,) = result["runs"]
    assert run["on_device"] == ["input", "first"] and run["exit"] == "final"
    assert run["answers"] == {"compared": 3, "equal": 3, "largest": 0.0, "same_class": 3}
    assert run["bits"] == 8 * (28 + 2 + 10 + 8 + 4 * 8 * 12 * 12)
    assert run["predicted_median_s"]["round trip"] == 0.01
    assert run["measured_median_s"]["link"] >= run["bits"] / 2e6
    assert result["options"]["rate"] == 2 and result["options"]["out"] == str(out)
    once = result["once_per_frame"]
    assert once["after_idle_s"] == [0, 0.01, 0.1]
    halves = [once[side][name]["seconds"] for side in ("device_half", "edge_half")
              for name in ("empty", "fixed", "scale")]  # fmt: skip
    for times in (*halves, once["message_s"]):
        assert len(times) == 3
    assert min(*halves[0], *halves[3], *once["message_s"]) > 0
    with (out / "frames.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    for row in rows:
        for side in ("predicted", "measured"):
            times = [float(row[f"{side}_{stage}_s"]) for stage in STAGES]
            assert sum(times[:-1]) == pytest.approx(times[-1], abs=1e-9)
        for side, factor in (("device", 2), ("edge", 1)):
            assert 0 < factor * float(row[f"{side}_cpu_s"]) <= float(row[f"measured_{side}_s"])
    with Image.open(out / "execution.png") as picture:
        assert picture.size == (1200, 460)


@pytest.mark.slow
def test_all_partitions_of_an_early_exit_over_a_trace(served, tmp_path, capsys):
    out, trace = tmp_path / "x", tmp_path / "uplink.csv"
    trace.write_text("time_s,rate_mbps\n0,2\n0.001,1\n0.002,3\n")
    options = ["--edge", served, "--out", out, "--all-partitions", "--exit", 0]
    options += ["--trace", trace, "--frames", 2, "--repeats", 2, "--quantise"]
    status, said = execute(capsys, *options)
    assert status == 0, said.err
    result = json.loads((out / "result.json").read_text())
    assert [run["partition"] for run in result["runs"]] == ["0", "1", "2", "3"]
    assert [len(run["on_device"]) for run in result["runs"]] == [1, 2, 3, 4]
    words = " ".join(said.out.split())
    assert "4 partitions by measured latency" in words
    assert "predictions are" in words and "the best by prediction, " in words
    assert "largest difference" in words and "the same class in" in words
    assert "note: the trace ends after 0.002 s" in words and "rate, 3 Mbit/s" in words


@pytest.mark.slow
@pytest.mark.parametrize("name", ["light", "heavy"])
def test_the_best_is_found_by_prediction(served, tmp_path, capsys, name):
    """Over a slow link nothing is sent; on a much slower device little is done."""
    out = tmp_path / "x"
    options = ["--edge", served, "--out", out, "--partition", name, "--frames", 2]
    options += ["--repeats", 2, "--pipeline", "--fps", 100, "--rate"]
    options += [0.01] if name == "light" else [1000, "--device-factor", 100]
    status, said = execute(capsys, *options)
    assert status == 0, said.err
    (run,) = json.loads((out / "result.json").read_text())["runs"]
    assert len(run["on_device"]) == (9 if name == "light" else 1)


def test_a_policy_decides_frame_by_frame(served, tmp_path, capsys):
    """On a slow link that becomes fast, a device 200 times slower leaves most to the edge."""
    out, trace = tmp_path / "x", tmp_path / "uplink.csv"
    trace.write_text("time_s,rate_mbps\n0,0.05\n0.25,20\n0.5,20\n")
    options = ["--edge", served, "--out", out, "--policy", "exact", "--exit", 1, "--trace", trace]
    options += ["--delay", 1, "--pipeline", "--fps", 40, "--frames", 20, "--repeats", 3]
    status, said = execute(capsys, *options, "--device-factor", 200)
    assert status == 0, said.err
    result = json.loads((out / "result.json").read_text())
    (run,) = result["runs"]
    with (out / "frames.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert run["policy"] == "exact" and len(rows) == run["frames"] == 20 - len(run["dropped"])
    assert run["answers"]["equal"] == run["answers"]["compared"] == len(rows) > 5
    started = sorted(set(range(20)) - set(run["dropped"]))
    for number, row in zip(started, rows, strict=True):
        assert float(row["arrival_s"]) == pytest.approx(number / 40, abs=1e-6)
        assert row["exit"] == "1" and row["partition"].startswith("final/")
    used = {one["partition"]: one["frames"] for one in run["partitions"]}
    assert used == {name: sum(row["partition"] == name for row in rows) for name in used}
    sent = [float(row["bits"]) for row in rows if float(row["arrival_s"]) > 0.26]
    assert len(sent) > 5 and all(bits > 0 for bits in sent)  # over a fast link
    for side in ("predicted", "measured"):
        total = sum(float(row[f"{side}_total_s"]) for row in rows) / len(rows)
        assert run[f"{side}_mean_s"]["total"] == pytest.approx(total)
    assert 0 < run["simulated_mean_s"] < 1
    words = " ".join(said.out.split())
    assert f"{len(rows)} of 20 frames as exact decides" in words
    assert f"exact: {len(run['dropped'])} frames dropped; means of {len(rows)} frames" in words
    assert "what was decided, means" in words and "in the simulator: mean latency" in words
    assert (out / "execution.png").is_file()


def test_a_policy_that_starts_nothing(served, tmp_path, capsys):
    options = ["--edge", served, "--out", tmp_path / "x", "--policy", "device-only", "--exit", 0]
    options += ["--pipeline", "--fps", 40, "--frames", 3, "--repeats", 2]
    status, said = execute(capsys, *options, "--device-factor", 900_000)
    assert status == 2 and "device-only starts none of 3" in said.err
    assert said.err.count("error: ") == 1 and not (tmp_path / "x").exists()


def test_the_exits_that_a_policy_is_offered(wanted):
    """Those of the zoo have accuracies where they were trained; elsewhere there may be but one."""

    def exits_of(network, graph, exit_=None):
        options = {"policy": "exact", "pipeline": True, "fps": 1.0, "exit": exit_}
        run = ExecuteRun(network=network, out=Path("x"), input=("1,3,12,12",), **options)
        return [(one.name, one.accuracy) for one in offered(run, graph).exits]

    known = load_profile("alexnet-digits")
    bare = replace(known, exits=tuple(replace(one, accuracy=None) for one in known.exits))
    expected = [("exit 1", 352 / 360), ("exit 2", 1.0), ("final", 359 / 360)]
    assert exits_of("alexnet-digits", bare) == expected
    assert exits_of("alexnet-digits", bare, 0) == expected[:1]
    assert exits_of(NETWORK, wanted.split.graph, 0) == [("exit 1", 1.0)]
    with pytest.raises(ValueError, match="policy needs accuracies, or one exit alone"):
        exits_of(NETWORK, wanted.split.graph)


def test_a_side_that_waits_for_a_processor_is_named():
    run = ExecuteRun(network=NETWORK, out=Path("x"), input=("1,3,12,12",), device_factor=4.0)

    def told(device_s, device_cpu_s, edge_s, edge_cpu_s):
        frame = Frame(
            number=0, partition=SimpleNamespace(number=0), inputs=(), ready=device_s, edge_s=edge_s
        )
        frame.device_cpu_s, frame.edge_cpu_s = device_cpu_s, edge_cpu_s
        return disturbances(run, [SimpleNamespace(frames=[frame, frame])])

    assert told(8e-3, 2e-3, 5e-3, 5e-3) == told(8e-3, 1.9e-3, 0.0, 0.0) == []
    device, edge = told(8e-3, 1.5e-3, 5e-3, 2e-3)
    assert device.startswith("note: for 25 % of its time the device waited for a processor")
    assert edge.startswith("note: for 60 % of its time the edge waited for a processor")


def test_a_processor_that_is_slow_from_time_to_time_is_named():
    """10 frames of each of two partitions; only the edge's second half scatters."""
    run = ExecuteRun(network=NETWORK, out=Path("x"), input=("1,3,12,12",), edge_factor=2.0)

    def told(edge_slow_ms, frames=10):
        found = []
        for k in range(2 * frames):
            slow = edge_slow_ms if k % 4 > 1 else 4.0
            frame = Frame(number=k, partition=SimpleNamespace(number=k % 2), inputs=())
            frame.ready = frame.device_cpu_s = 3e-3 * (1 + k % 2)
            frame.edge_cpu_s = 1e-3 * slow
            frame.edge_s = 2 * frame.edge_cpu_s
            found.append(frame)
        return disturbances(
            run, [SimpleNamespace(frames=found[:5]), SimpleNamespace(frames=found[5:])]
        )

    assert told(4.8) == told(8.0, frames=3) == []
    (note,) = told(6.0)
    assert note.startswith("note: the edge's CPU time for the same layers scatters")
    assert "is 1.50 times the first" in note


def test_results_are_not_overwritten(tmp_path, capsys):
    (tmp_path / "result.json").touch()
    status, said = execute(capsys, "--out", tmp_path)
    assert status == 2 and "already holds a run (result.json): give --overwrite" in said.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--edge", f"{LOOPBACK}:1"], f"the edge {LOOPBACK}:1 cannot be reached"),
        (["--partition", "middle"], "partition must be one of device-only, edge-only, light"),
        (["--partition", "13"], "partition must be in [0, 13), got 13"),
        (["--partition", "after:nothing"], "one of input, first, "),
        (["--exit", "2"], "exit must be in [0, 2), got 2"),
        (["--trace", "nowhere.csv"], "error: nowhere.csv: No such file or directory\n"),
        (["--device-factor", "0.5"], "device_factor must be at least 1, got 0.5"),
        ([*POLICY, "nobody"], "agent must be one of price, exact"),
        ([*POLICY, "viterbi"], "('viterbi' plays distributed_inference)"),
        ([*POLICY, "ppo:nowhere"], "nowhere holds no finished ppo run"),
        ([*POLICY, "exact"], "policy needs accuracies, or one exit alone (--exit)"),
        ([*POLICY, "exact", "--timeout", "249"], "longest deadline, 250 ms, got 249"),
        ([*POLICY, "exact", "--exit", "2"], "exit must be in [0, 2), got 2"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_not_possible_is_said_in_one_line(tmp_path, capsys, options, message):
    if "--edge" not in options:
        options = [*options, "--edge", f"{LOOPBACK}:1"]
    status, said = execute(capsys, "--out", tmp_path / "x", *options)
    assert status == 2 and said.out == ""
    assert said.err.startswith("error: ") and message in said.err and said.err.count("\n") == 1


def test_a_trace_that_ends_with_an_outage_is_refused(tmp_path, capsys):
    trace = tmp_path / "uplink.csv"
    trace.write_text("0,5e6\n1,0\n")
    status, said = execute(
        capsys, "--out", tmp_path / "x", "--trace", trace, "--edge", f"{LOOPBACK}:1"
    )
    assert status == 2 and "must not end with a rate of 0" in said.err
    assert said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 0.0}, "rate must be positive, got 0.0"),
        ({"rate": 1.0, "trace": Path("a.csv")}, "rate and trace"),
        ({"frames": 0}, "frames must be a whole number of at least 1, got 0"),
        ({"delay": -1.0}, "delay must not be negative, got -1.0"),
        ({"edge": "somewhere"}, "edge must be HOST:PORT, got 'somewhere'"),
        ({"edge": "a:99999"}, "got 'a:99999'"),
        ({"all_partitions": True, "partition": "heavy"}, "partition and all_partitions"),
        ({**DECIDED, "partition": "light"}, "policy and partition must not both be given"),
        ({"timeout": 500.0}, "timeout goes with a policy only"),
        ({"policy": "exact", "fps": 5.0}, "policy needs pipeline and fps"),
        ({"policy": "exact", "pipeline": True}, "policy needs pipeline and fps"),
        ({**DECIDED, "partition": "heavy"}, "policy and partition must not both be given"),
        ({**DECIDED, "all_partitions": True}, "policy and all_partitions must not both"),
        ({**DECIDED, "quantise": True}, "policy and quantise must not both be given"),
        ({**DECIDED, "timeout": 0.0}, "timeout must be positive, got 0.0"),
        ({"network": "nothing.py:x"}, "input must hold at least one shape"),
    ],
    ids=str,
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        ExecuteRun(**{"network": "resnet18", "out": Path("x"), **options})


def test_networks_that_ship_know_their_frames():
    assert ExecuteRun(network="resnet18", out=Path("x")).shapes == ((1, 3, 224, 224),)
    assert ExecuteRun(network="a.pt2", out=Path("x"), input=("1,5",), edge="[::1]:80").address == (
        "::1",
        80,
    )


# --- two processes


def start(*words, cwd=ROOT):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "train", *map(str, words)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def children(pid):
    """The processes that a process has started, by their command lines (Linux)."""
    found = {}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            try:
                found[int(child)] = Path(f"/proc/{child}/cmdline").read_text()
            except OSError:
                continue
    return found


def edge_of(pid):
    (edge,) = (child for child, words in children(pid).items() if "spawn_main" in words)
    return edge


def frames_in(out):
    return len((out / "frames.csv").read_text().splitlines()) - 1


def is_gone(pid, within=20.0):
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def running(tmp_path):
    """An execution with its own edge process, in which a frame takes 0.14 s."""
    if not Path("/proc/self/task").is_dir():
        pytest.skip("processes are looked at in /proc")
    options = ["--partition", "edge-only", "--rate", 0.1, "--frames", 1000, "--repeats", 2]
    device = start("execute", *GIVEN, "--out", tmp_path / "x", *options)
    assert device.stdout.readline().startswith("measuring how long layers and messages take")
    assert device.stdout.readline().startswith("both sides are ready")
    yield device, edge_of(device.pid), tmp_path / "x"
    device.kill()
    device.communicate()


@pytest.mark.slow
def test_an_edge_that_is_killed(running):
    device, edge, out = running
    time.sleep(3.0)  # the making of a message is measured before the first frame
    os.kill(edge, signal.SIGKILL)
    _, error = device.communicate(timeout=30)
    assert device.returncode == 2
    count = frames_in(out)
    assert 0 < count < 100
    assert error == (
        "error: the edge ended in the middle of the execution; the "
        f"{count} frames before it are in {out}\n"
    )
    assert is_gone(edge)


@pytest.mark.slow
def test_a_device_that_is_killed(running):
    device, edge, _ = running
    helpers = children(device.pid)
    device.kill()
    device.wait()
    assert edge in helpers and all(is_gone(one) for one in helpers)


@pytest.mark.slow
def test_a_device_that_is_killed_before_anything_is_ready(tmp_path):
    device = start("execute", *GIVEN, "--out", tmp_path / "x")
    end = time.monotonic() + 60
    while not (found := children(device.pid)) and time.monotonic() < end:
        time.sleep(0.02)
    device.kill()
    device.communicate()
    assert found and all(is_gone(one, within=60) for one in found)


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_measured(running):
    device, edge, out = running
    time.sleep(3.0)  # the making of a message is measured before the first frame
    device.send_signal(signal.SIGINT)
    _, error = device.communicate(timeout=30)
    assert device.returncode == 130 and is_gone(edge)
    count = frames_in(out)
    assert 0 < count < 100 and error == f"stopped; {count} frames are in {out}\n"
    (run,) = json.loads((out / "result.json").read_text())["runs"]
    assert run["answers"]["equal"] == count
    # Both count what was answered; of all 1000 frames, it would be predicted a hundredth.
    assert 0.2 < run["predicted_frames_per_s"] / run["measured_frames_per_s"] < 5
    assert (out / "execution.png").is_file()


@pytest.mark.slow
def test_an_edge_of_its_own(tmp_path, capsys):
    """As on two machines: another network is refused, and then the right one is served."""
    edge = start("edge", *GIVEN, "--port", 0)
    try:
        said = edge.stdout.readline()
        assert said.startswith("executed is served at ") and said.endswith("; Ctrl-C ends it\n")
        port = said.split("port ")[1].split(";")[0]
        options = ["--edge", f"{LOOPBACK}:{port}", "--out", tmp_path / "x", "--frames", 2]
        other = [NETWORK.replace(":branches", ":Branches"), "--input", "1,3,12,12"]
        assert main(["execute", *other, *map(str, options)]) == 2
        error = capsys.readouterr().err
        assert "refuses: both sides must have the same network" in error
        assert error.count("\n") == 1
        status, said = execute(capsys, *options, "--repeats", 2)
        assert status == 0, said.err
        assert "2 of 2 equal" in said.out
        out, error = edge.communicate(timeout=30)
        assert edge.returncode == 0 and error == ""
        first, second = out.splitlines()
        assert "was refused: both sides must" in first and second.endswith("ended")
    finally:
        edge.kill()
        edge.communicate()


@pytest.mark.slow
def test_a_port_that_is_taken(capsys):
    with listen(LOOPBACK, 0) as taken:
        port = taken.getsockname()[1]
        assert main(["edge", *GIVEN, "--port", str(port)]) == 2
    error = capsys.readouterr().err
    assert f"port {port} of " in error and error.count("\n") == 1
