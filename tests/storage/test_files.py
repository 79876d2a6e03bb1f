"""storage/files.py: what is written is written whole, and on disk before anybody relies on it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.files import replace_file, sync_files, write_atomically
from storage.layers import LayerFolder
from tests.storage.content import SHAPES, spec_of, values_of


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Every fsync as (path, bytes there at that moment)."""
    calls: list[tuple[str, int]] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        calls.append(
            (os.readlink(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor).st_size),
        )
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    return calls


@pytest.mark.parametrize("write", [write_atomically, replace_file])
def test_a_failed_write_leaves_the_old_bytes_and_nothing_else(
    write: Callable[[Path, bytes], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write(path, b"old")

    def fail(source: str, target: str) -> None:
        raise OSError("no")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no"):
        write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_atomic_write_is_on_disk_before_its_name_is(
    tmp_path: Path, synced: list[tuple[str, int]]
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"12345")
    (temporary, size), (folder, _) = synced
    assert size == 5
    assert Path(temporary).parent == tmp_path
    assert temporary != str(path)
    assert folder == str(tmp_path)


def test_files_are_synced_together_with_their_folders(
    tmp_path: Path, synced: list[tuple[str, int]]
) -> None:
    paths = [tmp_path / folder / str(n) for folder in ("a", "b") for n in range(20)]
    for path in paths:
        replace_file(path, b"123")
    assert synced == []
    sync_files(paths)
    assert sorted(synced[:40]) == sorted((str(path), 3) for path in paths)
    assert sorted(name for name, _ in synced[40:]) == [str(tmp_path / "a"), str(tmp_path / "b")]


def test_every_layer_is_on_disk_when_a_folder_is_written(
    tmp_path: Path, synced: list[tuple[str, int]]
) -> None:
    spec = spec_of(*SHAPES)
    folder = LayerFolder(tmp_path / "update", "update")
    folder.write(spec, values_of(spec, "update", seed=0))
    whole = {(str(path), path.stat().st_size) for path in folder.paths(spec)}
    assert whole <= set(synced)
    assert synced[-1][0] == str(folder.path)
