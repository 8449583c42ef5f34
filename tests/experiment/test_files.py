"""Files are old or new, never a part of either."""

import os
import stat

import pytest

from picojoule.errors import BadInput
from picojoule.files import replacing, sweep, writable_folder, write_text


def names(folder) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_replaces_in_one_step(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    write_text(path, "old µ")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text("utf-8") == "old µ"
    assert path.read_bytes() == b"new" and names(path.parent) == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt])
@pytest.mark.parametrize("old", [None, b"old"])
def test_an_error_leaves_the_old_file(tmp_path, error, old):
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(error), replacing(path) as file:
        file.write(b"new")
        raise error("in the middle")
    assert (path.read_bytes() if path.exists() else None) == old
    assert names(tmp_path) == ([] if old is None else ["file"])


def test_a_disk_that_fails_to_sync_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"), replacing(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old" and names(tmp_path) == ["file"]


def test_data_are_on_disk_before_the_name_changes(tmp_path, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda f: (steps.append("sync"), fsync(f))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (steps.append("rename"), replace(a, b))[1])
    write_text(tmp_path / "file", "text")
    assert steps == ["sync", "rename"]


def test_sweep_takes_only_what_killed_processes_left(tmp_path):
    kept = [".hidden", ".hidden.tmp", "notes.tmp", "a.1.tmp", "record.json"]
    run, other = tmp_path / "runs" / "plain_seed-0", tmp_path / "mine"
    run.mkdir(parents=True)
    other.mkdir()
    for name in kept:
        (run / name).touch()
    for left in (run / ".record.json.4711.tmp", tmp_path / ".records.jsonl.12.tmp", other / ".record.json.1.tmp"):
        left.touch()
    sweep(tmp_path)
    assert names(tmp_path) == ["mine", "runs"] and names(run) == sorted(kept)
    assert names(other) == [".record.json.1.tmp"], "what is not of a run is not ours"


def test_writable_folder(tmp_path):
    assert writable_folder(tmp_path / "a" / "b").is_dir() and names(tmp_path / "a" / "b") == []
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BadInput, match="cannot write to the folder .* choose another --out"):
            writable_folder(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(BadInput, match="Permission denied"):
        writable_folder(tmp_path)
