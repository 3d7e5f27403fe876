"""Files are written whole or not at all."""

import os
import stat

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


def test_the_content_is_on_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path, monkeypatch
):
    path = tmp_path / "note.txt"
    done = []
    sync, replace = os.fsync, os.replace

    def note_sync(handle):
        folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        size = None if folder else os.fstat(handle).st_size
        done.append(("folder" if folder else "file", size))
        sync(handle)

    def note_replace(source, target):
        done.append(("name", None))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_whole(path, b"12345")
    assert done == [("file", 5), ("name", None), ("folder", None)]


def test_a_folder_that_cannot_be_synced_is_no_error(tmp_path, monkeypatch):
    sync = os.fsync

    def fail(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError("not supported")
        sync(handle)

    monkeypatch.setattr(os, "fsync", fail)
    write_whole(tmp_path / "note.txt", "new")
    assert (tmp_path / "note.txt").read_text() == "new"
