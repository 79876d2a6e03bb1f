"""Hashing many blocks side by side gives what hashlib and the plain tree give."""

from pathlib import Path

import numpy as np
import pytest

from protocol.canonical import sha256
from protocol.encoding import BLOCK_BYTES, Kind, leaf_bytes
from protocol.errors import Misconfigured
from protocol.tree import compute_root
from storage import digests
from storage.digests import block_digests, examine
from storage.layers import LayerFolder
from storage.mapped import MappedFile
from tests.protocol.compiled import WAYS, choose_way
from tests.storage.content import spec_of, values_of


@pytest.fixture(params=WAYS, autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test here runs in every way; the compiled ones need the extra `fast`."""
    choose_way(request.param, monkeypatch)


def cut(data: bytes) -> list[bytes]:
    return [data[start : start + BLOCK_BYTES] for start in range(0, len(data), BLOCK_BYTES)]


@pytest.mark.parametrize("kind", ["update", "model"])
@pytest.mark.parametrize(
    ("shapes", "threads", "window"),
    [
        ([(1, 33)], 1, 64),
        ([(7, 33)] * 5, 2, 1 << 18),
        ([(70, 33), (16, 16), (64, 64)] * 7, 3, 4096),
        # Blocks of 1 MiB beside short last ones, in files of one and several blocks.
        ([(1024, 1024), (1500, 1000), (1, 1), (3000, 1000)], 2, 1 << 19),
        ([(2048, 1024)] * 4, 1, 1 << 19),
    ],
)
def test_examining_folders_gives_roots_and_digests(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: Kind,
    shapes: list[tuple[int, int]],
    threads: int,
    window: int,
) -> None:
    monkeypatch.setattr(digests, "WINDOW_BYTES", window)
    spec = spec_of(*shapes)
    folders = [LayerFolder(tmp_path / name, kind) for name in ("one", "two")]
    for seed, folder in enumerate(folders):
        folder.write(spec, values_of(spec, kind, seed))
    found = examine(spec, kind, [folder.paths(spec) for folder in folders], threads)
    for folder, examined in zip(folders, found, strict=True):
        contents = [path.read_bytes() for path in folder.paths(spec)]
        assert examined.root == compute_root(contents, leaf_bytes(kind)) == folder.root(spec)
        expected = [tuple(map(sha256, cut(data))) for data in contents]
        assert list(examined.digests) == expected
        assert block_digests(folder.paths(spec), threads) == expected
        assert [[len(block) for block in cut(data)] for data in contents] == [
            spec.block_sizes(index, kind) for index in range(len(shapes))
        ]


def test_a_file_too_short_is_told_by_name(tmp_path: Path) -> None:
    spec, folder = spec_of((7, 33)), LayerFolder(tmp_path, "model")
    folder.write(spec, values_of(spec, "model", 0))
    folder.layer_path(0).write_bytes(folder.layer_path(0).read_bytes()[:-1])
    with pytest.raises(Misconfigured, match=r"00000.layer is shorter than the 1,024 bytes"):
        examine(spec, "model", [folder.paths(spec)])


@pytest.mark.parametrize(
    "sizes",
    [[], [1], [63, 64, 65], [64, 128, 640, 64], [64] * 20, [70_000, 64], [2_100_000, BLOCK_BYTES]],
)
def test_files_of_any_size_are_hashed(tmp_path: Path, sizes: list[int]) -> None:
    contents = [np.random.default_rng(size).bytes(size) for size in sizes]
    paths = [tmp_path / f"{number}" for number in range(len(sizes))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    assert block_digests(paths) == [tuple(map(sha256, cut(content))) for content in contents]


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(Misconfigured, match="empty is empty"):
        block_digests([tmp_path / "empty"])


def test_a_forgotten_window_can_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(np.random.default_rng(0).bytes(100_000))
    with MappedFile(path, 99_999) as file:
        for start in range(0, 99_999, 7_777):
            assert bytes(file.data[start : start + 7]) == path.read_bytes()[start : start + 7]
            file.forget(start, min(start + 7_777, 99_999))
        assert bytes(file.data) == path.read_bytes()[:99_999]


def test_a_part_of_a_file_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "file"
    data = np.random.default_rng(0).bytes(BLOCK_BYTES + 100)
    path.write_bytes(data)
    with MappedFile(path, 100, start=BLOCK_BYTES) as file:
        assert bytes(file.data) == data[BLOCK_BYTES:]
    with pytest.raises(Misconfigured, match=f"shorter than the {BLOCK_BYTES + 101:,} bytes"):
        MappedFile(path, 101, start=BLOCK_BYTES)
