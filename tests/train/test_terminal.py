"""What a command does when its pipe closes, its terminal is narrow, or Ctrl-C comes early."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from train import __main__ as main

ROOT = Path(__file__).resolve().parents[2]
SETTLED = """
import sys
from train.terminal import settle
settle()
"""


def python(code, **options):
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, **options,
    )  # fmt: skip


@pytest.mark.parametrize("settled", [False, True])
def test_a_closed_pipe_is_no_error(tmp_path, settled):
    """Without settling it is one, so the test can fail."""
    done = tmp_path / "done"
    process = python(
        (SETTLED if settled else "import sys")
        + """
sys.stdin.readline()
print("x" * 100_000, flush=True)
print("y", file=sys.stderr)
"""
        + f"open({str(done)!r}, 'w').close()",
        stdin=subprocess.PIPE,
    )
    process.stdout.close()
    process.stdin.write("go\n")
    process.stdin.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait() == 0) is settled
    assert done.exists() is settled and ("BrokenPipe" in errors) is not settled


def test_what_is_read_arrives_in_order_and_unchanged():
    code = SETTLED + "for k in range(30_000):\n    print(k, 'ü')\nprint('e', file=sys.stderr)"
    process = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", code], cwd=ROOT, capture_output=True, check=True
    )
    assert process.stdout.decode() == "".join(f"{k} ü\n" for k in range(30_000))
    assert process.stderr == b"e\n"


@pytest.mark.parametrize(("columns", "counts"), [("1", "40"), ("39", "40"), ("41", "41")])
def test_narrow_terminals(columns, counts):
    code = SETTLED + "import os; print(os.environ['COLUMNS'])"
    process = python(code, env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": columns})
    assert process.communicate() == (f"{counts}\n", "")


@pytest.mark.slow
def test_help_in_one_column_comes_to_an_end():
    command = [sys.executable, "-m", "train", "exits", "--help"]
    environment = {**os.environ, "COLUMNS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "") and "--network" in done.stdout


@pytest.mark.parametrize("ignored", [False, True])
def test_ctrl_c_while_libraries_load(ignored):
    """Library code that turns the interrupt into something else does not get the chance."""
    code = """
import signal, sys, time
from train.terminal import leaving_at_once
with leaving_at_once():
    print("loading", flush=True)
    try:
        time.sleep(1 if IGNORED else 60)
    except BaseException:
        raise ImportError("the library failed")
print("loaded")
"""
    start = f"IGNORED = {ignored}\nimport signal\n"
    if ignored:
        start += "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    process = python(start + code)
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=30)
    if ignored:
        assert (process.returncode, rest, errors) == (0, "loaded\n", "")
    else:
        assert (process.returncode, rest, errors) == (130, "", "stopped\n")


@pytest.mark.parametrize("interrupted", [False, True])
def test_ctrl_c_that_a_library_turns_into_its_own_error(monkeypatch, capsys, interrupted):
    """As an extension module does that is loaded where it is first needed."""

    def work():
        try:
            if interrupted:
                signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            pass
        raise ImportError("initialization failed")

    monkeypatch.setitem(main.COMMANDS, "work", (lambda words: work, "do something"))
    monkeypatch.setattr(sys, "argv", ["mec-gym", "work"])
    monkeypatch.setattr(main, "settle", lambda: None)
    before = signal.getsignal(signal.SIGINT)
    if interrupted:
        assert main.main() == 130
        assert capsys.readouterr().err == "stopped\n"
    else:
        with pytest.raises(ImportError, match="initialization failed"):
            main.main()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0, 4.0])
def test_ctrl_c_at_any_time_on_the_command_line(tmp_path, seconds):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "train", "ppo", "--out", str(out)]
    process = subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    # Python itself may report that the interrupt came from outside.
    assert process.returncode in (130, -signal.SIGINT)
    assert "stopped" in errors and "Traceback" not in errors
