"""Files are written whole or not at all."""

import os

import pytest

from mec_gym.core.files import write_whole


def test_text_and_bytes_are_written_and_folders_made(tmp_path):
    path = tmp_path / "deep" / "down" / "note.txt"
    write_whole(path, "one ü")
    assert path.read_bytes() == "one ü".encode()
    write_whole(path, b"\x00two")
    assert path.read_bytes() == b"\x00two"
    assert os.listdir(path.parent) == ["note.txt"]


def test_an_older_file_stays_whole_when_the_last_move_fails(tmp_path, monkeypatch):
    path = tmp_path / "note.txt"
    write_whole(path, "old")

    def fail(source, target):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        write_whole(path, "new")
    assert path.read_text() == "old"
