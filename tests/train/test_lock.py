"""The lock of a folder: between processes, after a kill, and what is left of it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from train.lock import LOCK_FILE, locked

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys
from pathlib import Path
from train.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder):
    """A process that holds a folder until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], cwd=ROOT, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("killed", [False, True])
def test_another_process_waits_for_its_end_however_it_ends(tmp_path, killed):
    folder = tmp_path / "run"
    process = holder(folder)
    with pytest.raises(ValueError, match=f"out {folder} is in use"), locked(folder):
        pass
    if killed:
        os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == (-signal.SIGKILL if killed else 0)
    assert folder.exists() is killed
    with locked(folder):
        assert (folder / LOCK_FILE).exists()
    assert not (folder / LOCK_FILE).exists()


def test_in_one_process_too_and_after_an_error(tmp_path):
    for _ in range(2):
        with pytest.raises(RuntimeError), locked(tmp_path):
            with pytest.raises(ValueError, match="in use"), locked(tmp_path):
                pass
            assert os.listdir(tmp_path) == [LOCK_FILE]
            raise RuntimeError
        assert os.listdir(tmp_path) == []  # it was there before, so it stays


def test_whoever_opened_the_file_of_the_one_before_begins_anew(tmp_path, monkeypatch):
    """The holder goes, and removes its file, between another one's opening and locking it."""
    first = locked(tmp_path)
    first.__enter__()
    real, opened = os.open, []

    def late(path, *rest):
        handle = real(path, *rest)
        if not opened:
            opened.append(handle)
            first.__exit__(None, None, None)
        return handle

    monkeypatch.setattr(os, "open", late)
    with locked(tmp_path):
        monkeypatch.undo()
        with pytest.raises(ValueError, match="in use"), locked(tmp_path):
            pass


def test_where_there_are_no_locks_a_run_goes_on_with_a_warning(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def fail(handle, operation):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.warns(RuntimeWarning, match=f"{tmp_path} .*not implemented"), locked(tmp_path):
        pass


def test_a_file_is_no_folder(tmp_path):
    path = tmp_path / "run"
    path.write_text("")
    with pytest.raises(ValueError, match=f"out .*{path} is a file"), locked(path):
        pass
