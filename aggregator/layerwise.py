"""The weighted mean of updates on disk, layer by layer, in blocks (docs/protocol.md §7).

Memory is a few blocks however large the model and however many the participants; the new layer is
written and hashed as it appears. The bits do not depend on the number of threads.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np

from protocol.average import weighted_mean
from protocol.encoding import STORED
from protocol.quantities import Digest
from protocol.spec import Spec
from protocol.tree import TreeBuilder
from storage.layers import LayerFolder

BLOCK_BYTES: Final = 1 << 18  # 65,536 values: one int64 block of them fits the L2 cache


def average_layers(
    spec: Spec,
    updates: Sequence[LayerFolder],
    weights: Sequence[int],
    target: LayerFolder,
    threads: int = 2,
) -> Digest:
    """Write the weighted mean of `updates` to `target` and return its tree root.

    `weights` has one positive integer an update, with a sum below 2^31. Padding averages to zero.
    """
    target.path.mkdir(parents=True, exist_ok=True)
    builder = TreeBuilder(spec.encoding.leaf_bytes)
    with ThreadPoolExecutor(threads) as pool:
        for index in range(len(spec.layers)):
            paths = [update.layer_path(index) for update in updates]
            with target.layer_path(index).open("wb") as file:
                for block in _mean_blocks(
                    pool, paths, weights, spec.layer_bytes(index), 2 * threads
                ):
                    file.write(block)
                    builder.update(block)
    return builder.root()


def _mean_blocks(
    pool: ThreadPoolExecutor,
    paths: Sequence[Path],
    weights: Sequence[int],
    size: int,
    ahead: int,
) -> Iterator[bytes]:
    """Yield the mean of the files at `paths` block by block, in order, `ahead` in the making."""
    pending: deque[Future[bytes]] = deque()
    for start in range(0, size, BLOCK_BYTES):
        length = min(BLOCK_BYTES, size - start)
        pending.append(pool.submit(_mean_block, paths, weights, start, length))
        if len(pending) == ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _mean_block(paths: Sequence[Path], weights: Sequence[int], start: int, length: int) -> bytes:
    count = length // STORED.itemsize
    blocks = [np.fromfile(path, STORED, count=count, offset=start) for path in paths]
    return weighted_mean(blocks, weights).astype(STORED).tobytes()
