"""Whether an update may enter the average: checks 2 to 11 of docs/protocol.md §6.

Check 1 (reachable) belongs to whoever fetches the bytes, and check 12 needs several updates
(`protocol.similarity`). Everything here is a function of bytes alone, so an auditor arrives at the
same reason code. Any fault of the bytes or the manifest is raised as `Rejected`.
Golden vectors: tests/vectors/norms.json.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from protocol.checks import ACCEPTED, Check
from protocol.encoding import Kind, find_range_fault, leaf_bytes, value_type
from protocol.errors import Rejected
from protocol.manifest import Manifest
from protocol.similarity import sum_of_squares
from protocol.spec import Spec
from protocol.tree import TreeBuilder
from protocol.types import Address, Digest, RoundId

__all__ = [
    "ACCEPTED",
    "Check",
    "LayerBlocks",
    "UpdateFacts",
    "check_manifest",
    "duplicates",
    "screen_update",
    "squared_norm_limit",
]

LayerBlocks = Callable[[int], Iterator[bytes]]
"""From a layer's index to its file, as consecutive blocks of any size."""

_CHUNK_BYTES: Final = 1 << 18  # values at once: their int16 squares stay in the L2 cache


@dataclass(frozen=True)
class UpdateFacts:
    """The results of the pass over an accepted update."""

    root: Digest
    squared_norm: int
    """Σd² over all values, padding included, in squares of the grid's step."""


def check_manifest(
    raw: bytes,
    *,
    spec: Spec,
    federation: Address,
    chain_id: int,
    round_id: RoundId,
    kind: Kind,
    root: Digest,
) -> Manifest:
    """Return the manifest in `raw` if it passes checks 2 to 4, and 5 and 6 as far as they go.

    Of check 5 that is the number of blocks, of check 6 the manifest's own root.
    """
    # 2. Canonical JSON of the right fields, at most 1 MiB.
    manifest = Manifest.parse(raw)
    # 3. Made for this federation, round and spec.
    for name, found, expected in (
        ("chain_id", manifest.chain_id, chain_id),
        ("federation", manifest.federation, federation),
        ("round", manifest.round, round_id),
        ("kind", manifest.kind, kind),
        ("spec", manifest.spec, spec.digest().hex()),
    ):
        if found != expected:
            raise Rejected(Check.ROUND_AND_SPEC, f"{name} is {found}, {expected} was expected")
    # 4. The spec's layers: number, names, order and shapes.
    if len(manifest.layers) != len(spec.layers):
        counts = f"{len(manifest.layers)} layers, the spec asks for {len(spec.layers)}"
        raise Rejected(Check.LAYERS, counts)
    for index, (entry, layer) in enumerate(zip(manifest.layers, spec.layers, strict=True)):
        if entry.name != layer.name:
            reason = f"layer {index} is {entry.name}, the spec asks for {layer.name}"
            raise Rejected(Check.LAYERS, reason)
        if entry.shape != layer.shape:
            reason = f"layer {layer.name} has shape {entry.shape}, the spec asks for {layer.shape}"
            raise Rejected(Check.LAYERS, reason)
    # 5. As many blocks as the layer file has; whoever fetches them knows their sizes.
    for index, entry in enumerate(manifest.layers):
        expected_blocks = len(spec.block_sizes(index, kind))
        if len(entry.blocks) != expected_blocks:
            counts = f"{len(entry.blocks)} blocks, its size makes {expected_blocks}"
            raise Rejected(Check.DIGESTS, f"layer {entry.name} has {counts}")
    # 6. The root that was revealed.
    if manifest.root_digest != root:
        raise Rejected(Check.ROOT, f"the manifest's root is {manifest.root}, not {root.hex()}")
    return manifest


def screen_update(spec: Spec, root: Digest, update: LayerBlocks, round_id: RoundId) -> UpdateFacts:
    """Return the facts of an update that passes checks 6 to 9 and 11, in one pass over its bytes.

    The failed check with the lowest number is reported, so that everybody records the same reason.
    An update of the wrong size is Rejected(Check.DIGESTS) at once.
    """
    builder = TreeBuilder(leaf_bytes("update"))
    squared_norm = 0
    range_fault: str | None = None
    for index, layer in enumerate(spec.layers):
        left = spec.layer_values(index)
        for chunk in _rechunked(layer.name, update(index), spec.layer_bytes(index, "update")):
            builder.update(chunk)
            values = np.frombuffer(chunk, value_type("update"))
            # A range fault is only kept: the root, check 6, is known at the end of the bytes.
            if not range_fault and (fault := find_range_fault(values, left, "update")):
                range_fault = f"layer {layer.name}: {fault}"
            squared_norm += sum_of_squares(values)
            left -= values.size
    found = builder.root()
    # 6. The bytes are those whose root was revealed.
    if found != root:
        raise Rejected(Check.ROOT, f"the layers hash to {found.hex()}, not to {root.hex()}")
    # 7. No value is -128 and the padding is zero.
    if range_fault:
        raise Rejected(Check.RANGE, range_fault)
    # 8. The update is no longer than the spec allows, if it says so.
    limit, grid = spec.screening.max_update_norm, spec.encoding.grid_in(round_id)
    if limit is not None and squared_norm > squared_norm_limit(limit, grid):
        norm = squared_norm**0.5 / 2**grid
        raise Rejected(Check.NORM, f"the update's norm is {norm:.6g}, the limit is {limit:g}")
    # 9. The update changes something.
    if found == spec.zero_root:
        raise Rejected(Check.ZERO, "every value of the update is 0")
    # 11. It changes enough. (10, duplicates, takes the roots of the whole round.)
    least = spec.screening.min_norm
    if squared_norm < least**2:
        norm = squared_norm**0.5
        raise Rejected(
            Check.WEAK, f"the update's norm is {norm:.6g} steps, {least:,} are asked for"
        )
    return UpdateFacts(found, squared_norm)


def squared_norm_limit(max_update_norm: float, grid: int) -> int:
    """Return floor((max_update_norm · 2^grid)²), exactly.

    The norm is the decimal number in the spec's canonical JSON, the shortest one that reads back as
    this float, not the float's own binary value.
    """
    scaled = Fraction(repr(float(max_update_norm))) * 2**grid
    return int(scaled * scaled)


def _rechunked(name: str, blocks: Iterator[bytes], size: int) -> Iterator[memoryview]:
    """Yield the same bytes in chunks of `_CHUNK_BYTES`, only the last one shorter."""
    pending = b""
    seen = 0
    for block in blocks:
        seen += len(block)
        if seen > size:  # before it is used: an endless stream must end here
            raise Rejected(
                Check.DIGESTS, f"layer {name} has more than the {size:,} bytes the spec asks for"
            )
        view = memoryview(pending + block if pending else block)
        whole = len(view) - len(view) % _CHUNK_BYTES
        for start in range(0, whole, _CHUNK_BYTES):
            yield view[start : start + _CHUNK_BYTES]
        pending = bytes(view[whole:])
    if seen < size:
        raise Rejected(
            Check.DIGESTS, f"layer {name} has {seen:,} bytes, the spec asks for {size:,}"
        )
    if pending:
        yield memoryview(pending)


def duplicates(roots_in_commit_order: Sequence[tuple[Address, Digest]]) -> dict[Address, Address]:
    """Return the participants that fail check 10, each with the first holder of its root.

    Whoever committed first keeps its update: a commitment hides the root, so a copy comes later.
    """
    first: dict[Digest, Address] = {}
    copies: dict[Address, Address] = {}
    for participant, root in roots_in_commit_order:
        holder = first.setdefault(root, participant)
        if holder != participant:
            copies[participant] = holder
    return copies
