"""SHA-256 of many files, and the trees over them, in one pass over their bytes.

Updates and models are many layer files. Sixteen files are hashed side by side, one in each lane of
a vector, where that is faster than one after the other (`protocol.speed`); each window's leaves
are hashed while it is still in the cache.
"""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from math import lcm
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from protocol import speed
from protocol.quantities import Digest
from protocol.spec import Spec
from protocol.tree import Subtree, TreeBuilder, full_subtrees
from storage.layers import LayerFolder
from storage.mapped import MappedFile

WINDOW_BYTES: Final = 1 << 19  # of one file, at a time

_LANES: Final = 16
_BLOCK: Final = 64  # bytes that SHA-256 takes at a time

OnWindow = Callable[[int, int, memoryview], None]
"""Told of each window once it is hashed: the file's number, where it begins, its bytes."""


@dataclass(frozen=True)
class Examined:
    """What the bytes of a folder of layer files hash to."""

    root: Digest
    digests: tuple[Digest, ...]
    """SHA-256 of each layer file, in the order of the spec."""


def examine(spec: Spec, folders: Sequence[LayerFolder], threads: int = 2) -> list[Examined]:
    """Return each folder's tree root and file digests, reading every byte once.

    Raises Misconfigured when a layer file is shorter than the spec says.
    """
    layers, leaf_bytes = range(len(spec.layers)), spec.encoding.leaf_bytes
    sizes = [spec.layer_bytes(index) for index in layers]
    first_leaf = np.cumsum([0, *sizes]) // leaf_bytes
    subtrees: list[list[Subtree]] = [[] for _ in range(len(folders) * len(layers))]

    def hash_leaves(number: int, start: int, window: memoryview) -> None:
        first = int(first_leaf[number % len(layers)]) + start // leaf_bytes
        subtrees[number] += full_subtrees(window, leaf_bytes, first)

    paths = [folder.layer_path(index) for folder in folders for index in layers]
    found = digest_files(paths, sizes * len(folders), threads, hash_leaves, leaf_bytes)
    return [
        Examined(
            _root(spec, subtrees[start : start + len(layers)]),
            tuple(found[start : start + len(layers)]),
        )
        for start in range(0, len(paths), len(layers))
    ]


def _root(spec: Spec, layers: Sequence[Sequence[Subtree]]) -> Digest:
    builder = TreeBuilder(spec.encoding.leaf_bytes)
    for subtrees in layers:
        for subtree in subtrees:
            builder.append(subtree)
    return builder.root()


def digest_files(
    paths: Sequence[Path],
    sizes: Sequence[int],
    threads: int = 2,
    on_window: OnWindow = lambda number, start, window: None,
    unit: int = _BLOCK,
) -> list[Digest]:
    """Return the SHA-256 of the first `sizes[i]` bytes of each file.

    `on_window` hears of all of a file's windows in order, and of different files from different
    threads; each but a file's last is a multiple of `unit` bytes long. Raises Misconfigured when
    a file is shorter.
    """
    whole = lcm(unit, _BLOCK)
    window = max(WINDOW_BYTES // whole, 1) * whole
    digests: dict[int, Digest] = {}

    def work(group: list[int]) -> None:
        compiled = speed.hashing(sum(sizes[number] for number in group), len(group))
        with ExitStack() as files:
            streams = []
            for number in group:
                file = files.enter_context(MappedFile(paths[number], sizes[number], window))
                streams.append(_Stream(number, file, window, on_window))
            found = (
                _one_after_the_other(streams)
                if compiled is None
                else _Lanes(compiled).digests(streams)
            )
            digests.update(zip(group, found, strict=True))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, _groups(sizes, threads)))
    return [digests[number] for number in range(len(paths))]


def _groups(sizes: Sequence[int], threads: int) -> list[list[int]]:
    """At most sixteen files each, of about one size, the largest first, as many for each thread."""
    order = sorted(range(len(sizes)), key=lambda number: -sizes[number])
    turns = -(-len(order) // (_LANES * threads))
    size = -(-len(order) // (turns * threads))
    return [order[i : i + size] for i in range(0, len(order), size)]


class _Stream:
    """One file on its way through a hash, window by window."""

    def __init__(self, number: int, file: MappedFile, window: int, on_window: OnWindow) -> None:
        self._number, self._file, self._on_window = number, file, on_window
        self.window = window
        self.size = len(file.data)

    def bytes(self, start: int, stop: int) -> memoryview:
        return self._file.data[start : min(stop, self.size)].data

    def address(self, place: int) -> int:
        return int(self._file.data.ctypes.data) + place

    def done(self, start: int) -> None:
        """The window at `start` is hashed: pass it on and forget it."""
        self._on_window(self._number, start, self.bytes(start, start + self.window))
        self._file.forget(start, min(start + self.window, self.size))


def _one_after_the_other(streams: Sequence[_Stream]) -> list[Digest]:
    digests = []
    for stream in streams:
        hasher = hashlib.sha256()
        for start in range(0, stream.size, stream.window):
            hasher.update(stream.bytes(start, start + stream.window))
            stream.done(start)
        digests.append(Digest(hasher.digest()))
    return digests


class _Lanes:
    """Hashes at most sixteen streams, the largest first, in step: lane i belongs to stream i."""

    def __init__(self, kernels: Any) -> None:
        self._kernels = kernels
        self._chains: NDArray[np.uint32] = kernels.START.copy()
        self._place = 0
        self._digests: list[Digest] = []

    def digests(self, streams: Sequence[_Stream]) -> list[Digest]:
        active = list(streams)
        while active:
            start, heard = self._place, list(active)
            self._window(active, start + active[0].window)
            for stream in heard:
                stream.done(start)
        return self._digests[::-1]

    def _window(self, active: list[_Stream], stop: int) -> None:
        """Hash on to `stop`, taking the streams that end before it out of `active`."""
        while active and self._place < stop:
            blocks = (min(stop, active[-1].size) - self._place) // _BLOCK
            places = [stream.address(self._place) for stream in active]
            places += [places[0]] * (_LANES - len(places))  # lanes without a stream of their own
            self._kernels.advance(self._chains, np.array(places, np.int64), blocks)
            self._place += blocks * _BLOCK
            while active and active[-1].size < min(self._place + _BLOCK, stop + 1):
                self._digests.append(self._finish(active.pop(), len(active)))

    def _finish(self, stream: _Stream, lane: int) -> Digest:
        rest = bytes(stream.bytes(self._place, stream.size)) + b"\x80"
        rest += bytes((56 - len(rest)) % _BLOCK) + (8 * stream.size).to_bytes(8, "big")
        data = np.frombuffer(rest, np.uint8)
        chains = self._chains.copy()
        places = np.full(_LANES, data.ctypes.data, np.int64)
        self._kernels.advance(chains, places, len(rest) // _BLOCK)
        return Digest(chains[:, lane].astype(">u4").tobytes())
