"""SHA-256 of the blocks of layer files and the trees over them, in one pass over their bytes.

Updates and models consist of many blocks. Where that is faster than hashlib (`protocol.speed`),
sixteen blocks are hashed side by side, one in each lane of a vector, and their leaves along with
them while the words are in registers.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from types import ModuleType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocol import speed
from protocol.encoding import BLOCK_BYTES, Kind, leaf_bytes
from protocol.errors import Misconfigured
from protocol.spec import Spec
from protocol.tree import ZERO, Subtree, TreeBuilder, full_subtrees, subtrees_over
from protocol.types import Digest
from storage.mapped import MappedFile

WINDOW_BYTES: Final = 1 << 19  # of one block, at a time

_STEP_BYTES: Final = 64  # what SHA-256 takes at a time
_LANES: Final = 16
# With fewer blocks than this, leaves fill the lanes better by themselves.
_LANES_FOR_LEAVES: Final = 11


@dataclass(frozen=True)
class Examined:
    """The digests of a folder of layer files."""

    root: Digest
    digests: tuple[tuple[Digest, ...], ...]
    """SHA-256 of each block of each layer file, in the order of the spec."""


def examine(
    spec: Spec, kind: Kind, folders: Sequence[Sequence[Path]], threads: int = 2
) -> list[Examined]:
    """Return the tree root and block digests of each folder's layer files, reading them once.

    `folders` are the paths of the layer files of updates, or of models. Raises Misconfigured when a
    layer file is shorter than the spec says.
    """
    # 1. Number the leaves of each folder through its layers.
    leaf, numbers = leaf_bytes(kind), range(len(spec.layers))
    first_leaves = list(accumulate(map(spec.layer_leaves, numbers), initial=0))
    layers = [
        [
            _blocks(path, spec.block_sizes(index, kind), first_leaves[index], leaf)
            for index, path in zip(numbers, paths, strict=True)
        ]
        for paths in folders
    ]
    # 2. Hash all blocks together: the more of them, the fuller the lanes.
    _hash([block for each in layers for layer in each for block in layer], leaf, threads)
    # 3. Join each folder's subtrees, in the order of its layers.
    examined = []
    for each in layers:
        builder = TreeBuilder(leaf)
        for layer in each:
            for block in layer:
                for subtree in block.subtrees:
                    builder.append(subtree)
        digests = tuple(tuple(block.digest for block in layer) for layer in each)
        examined.append(Examined(builder.root(), digests))
    return examined


def block_digests(paths: Sequence[Path], threads: int = 2) -> list[tuple[Digest, ...]]:
    """Return the SHA-256 of each block of each file; Misconfigured when one is empty."""
    files = []
    for path in paths:
        size = path.stat().st_size
        sizes = [min(BLOCK_BYTES, size - start) for start in range(0, size, BLOCK_BYTES)]
        if not sizes:
            raise Misconfigured(f"{path} is empty")
        files.append(_blocks(path, sizes))
    _hash([block for blocks in files for block in blocks], None, threads)
    return [tuple(block.digest for block in blocks) for blocks in files]


@dataclass
class _Block:
    """A block of a layer file, the number of its first leaf in the tree, and the results so far."""

    path: Path
    start: int
    size: int
    first_leaf: int
    subtrees: list[Subtree] = field(default_factory=list)
    digest: Digest = ZERO


def _blocks(
    path: Path, sizes: Sequence[int], first_leaf: int = 0, leaf: int = BLOCK_BYTES
) -> list[_Block]:
    """Return the blocks of a file; a whole number of leaves of `leaf` bytes makes a block."""
    starts = range(0, len(sizes) * BLOCK_BYTES, BLOCK_BYTES)
    return [
        _Block(path, start, size, first_leaf + start // leaf)
        for start, size in zip(starts, sizes, strict=True)
    ]


def _hash(blocks: Sequence[_Block], leaf: int | None, threads: int) -> None:
    """Hash blocks, and their leaves unless `leaf`, the size of one in bytes, is None."""

    def work(group: list[_Block]) -> None:
        sizes = [block.size for block in group]
        compiled = speed.hashing(sum(sizes), len(group))
        with ExitStack() as files:
            streams = [files.enter_context(_Stream(block, leaf)) for block in group]
            # The loops take whole steps: padding within a message is left to hashlib.
            if compiled is not None and not any(size % _STEP_BYTES for size in sizes):
                _Lanes(compiled, streams).run()
                return
            for stream in streams:
                stream.hash_alone()

    # Groups of at most sixteen blocks of about one size, as many groups for each thread: a lane is
    # idle once its block has ended, and a thread once its groups are done.
    order = sorted(blocks, key=lambda block: -block.size)
    turns = max(-(-len(order) // (_LANES * threads)), 1)
    size = max(-(-len(order) // (turns * threads)), 1)
    groups = [order[i : i + size] for i in range(0, len(order), size)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, groups))  # as a list, so that what a thread raises is raised here


class _Stream(MappedFile):
    """A block that is hashed window by window."""

    def __init__(self, block: _Block, leaf: int | None) -> None:
        self.window = max(WINDOW_BYTES // (leaf or _STEP_BYTES), 1) * (leaf or _STEP_BYTES)
        super().__init__(block.path, block.size, self.window, block.start)
        self.block, self.leaf = block, leaf

    def hash_alone(self) -> None:
        """Hash the whole block by hashlib, and its leaves."""
        hasher = hashlib.sha256()
        for start in range(0, self.block.size, self.window):
            stop = min(start + self.window, self.block.size)
            hasher.update(self.data[start:stop].data)
            self.hash_leaves(start, stop)
            self.forget(start, stop)
        self.block.digest = Digest(hasher.digest())

    def hash_leaves(self, start: int, stop: int) -> None:
        """Add the subtrees over the leaves from byte `start` to `stop`, if they are asked for."""
        if self.leaf is not None:
            data, first = self.data[start:stop].data, start // self.leaf
            self.block.subtrees += full_subtrees(data, self.leaf, self.block.first_leaf + first)


class _Lanes:
    """Hashes at most sixteen streams in step, the largest first: lane i belongs to stream i."""

    def __init__(self, kernels: ModuleType, streams: Sequence[_Stream]) -> None:
        self._kernels = kernels
        self._chains: NDArray[np.uint32] = kernels.START.copy()
        self._active = list(streams)

    def run(self) -> None:
        """Hash all streams to their ends."""
        place = 0
        while self._active:
            # Up to the end of the shortest at most: a lane's message ends with a whole step.
            stop = min(place + self._active[0].window, self._active[-1].block.size)
            self._advance(place, stop)
            for stream in self._active:
                stream.forget(place, stop)
            while self._active and self._active[-1].block.size == stop:
                stream = self._active.pop()
                chains = self._chains.copy()  # `finish` ends the messages of all lanes
                self._kernels.finish(chains, stream.block.size)
                digest = chains[:, len(self._active)].astype(">u4").tobytes()
                stream.block.digest = Digest(digest)
            place = stop

    def _advance(self, place: int, stop: int) -> None:
        active, kernels, leaf = self._active, self._kernels, self._active[0].leaf
        starts = [stream.data.ctypes.data + place for stream in active]
        starts += [starts[0]] * (_LANES - len(active))  # idle ones repeat the first
        places = np.array(starts, np.int64)
        if leaf is None or len(active) < _LANES_FOR_LEAVES:
            kernels.advance(self._chains, places, (stop - place) // _STEP_BYTES)
            for stream in active:
                stream.hash_leaves(place, stop)
            return
        leaves = np.empty((_LANES, (stop - place) // leaf, 8), np.uint32)
        kernels.advance_leaves(self._chains, places, leaf, leaves)
        for stream, row in zip(active, leaves, strict=False):
            first = stream.block.first_leaf + place // leaf
            stream.block.subtrees += subtrees_over(kernels, row, first)
