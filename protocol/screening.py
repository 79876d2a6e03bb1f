"""Whether an update may enter the average: checks 2 to 10 of docs/protocol.md §6.

Checks 1 (reachable) and 5 (digests) belong to whoever fetches the bytes. Everything here is a
function of bytes alone, so an auditor arrives at the same reason code. Any fault of the bytes or
the manifest is raised as `Rejected`. Golden vectors: tests/vectors/norms.json.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from protocol import speed
from protocol.checks import ACCEPTED, Check
from protocol.encoding import MAX_VALUE, STORED
from protocol.errors import Misconfigured, Rejected
from protocol.manifest import Kind, Manifest
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
    "norm_squared_limit",
    "screen_update",
    "squared_distance",
    "sum_of_squares",
]

LayerBlocks = Callable[[int], Iterator[bytes]]
"""From a layer's index to its file, as consecutive blocks of any size."""

_BLOCK_BYTES: Final = 1 << 18  # 65,536 values at once, see `sum_of_squares` for the upper limit
_LEAST: Final = np.array(-MAX_VALUE - 1, STORED).view(np.uint32)  # as it lies in memory
_SMALL: Final = 2**22  # two values up to here differ by 2^23: 65,536 such squares stay within 2^62


@dataclass(frozen=True)
class UpdateFacts:
    """The results of the pass over an accepted update."""

    root: Digest
    norm_squared: int
    """Σ (update - model)², in squares of the encoding's quantum."""


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
    """Return the manifest in `raw` if it passes checks 2, 3, 4 and, for its root, 6."""
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
    # 6. The root that was revealed.
    if manifest.root_digest != root:
        raise Rejected(Check.ROOT, f"the manifest's root is {manifest.root}, not {root.hex()}")
    return manifest


def screen_update(
    spec: Spec, root: Digest, update: LayerBlocks, model: LayerBlocks, model_root: Digest
) -> UpdateFacts:
    """Return the facts of an update that passes checks 6 to 9, in one pass over both streams.

    The failed check with the lowest number is reported, so that everybody records the same reason.
    An update of the wrong size is Rejected(Check.DIGESTS) at once; a model of the wrong size is
    Misconfigured, since that is our own copy.
    """
    builder = TreeBuilder(spec.encoding.leaf_bytes)
    norm_squared = 0
    range_fault: str | None = None
    for index, layer in enumerate(spec.layers):
        place = 0
        for new, old in _in_step(spec, index, update, model):
            builder.update(new)
            # A range fault is only kept: the root, check 6, is known at the end of the bytes.
            values = np.frombuffer(new, STORED)
            fault = range_fault or _find_range_fault(values, spec.layer_values(index) - place)
            if fault and not range_fault:
                range_fault = f"layer {layer.name}: {fault}"
            norm_squared += squared_distance(values, np.frombuffer(old, STORED))
            place += values.size
    found = builder.root()
    # 6. The bytes are those whose root was revealed.
    if found != root:
        raise Rejected(Check.ROOT, f"the layers hash to {found.hex()}, not to {root.hex()}")
    # 7. No value is -2^31 and the padding is zero.
    if range_fault:
        raise Rejected(Check.RANGE, range_fault)
    # 8. The update is no further from the model than the spec allows.
    limit, fraction_bits = spec.screening.max_update_norm, spec.encoding.fraction_bits
    if norm_squared > norm_squared_limit(limit, fraction_bits):
        norm = norm_squared**0.5 / 2**fraction_bits
        raise Rejected(Check.NORM, f"the update's norm is {norm:.6g}, the limit is {limit:g}")
    # 9. The update is not the model itself.
    if found == model_root:
        raise Rejected(Check.NOT_MODEL, "the update is the model itself")
    return UpdateFacts(found, norm_squared)


def _find_range_fault(values: NDArray[np.int32], real: int) -> str | None:
    """Describe the fault of a block whose first `real` values are not padding, if it has one."""
    # Nothing but zeros: padding of choice would make a copy's root differ from the original's.
    if real < values.size and values[max(real, 0) :].any():
        return "the padding is not zero"
    if (values.view(np.uint32) == _LEAST).any():
        return "a value is -2^31"
    return None


def norm_squared_limit(max_update_norm: float, fraction_bits: int) -> int:
    """Return floor((max_update_norm · 2^fraction_bits)²), exactly.

    The norm is the decimal number in the spec's canonical JSON, the shortest one that reads back as
    this float, not the float's own binary value.
    """
    scaled = Fraction(repr(float(max_update_norm))) * 2**fraction_bits
    return int(scaled * scaled)


def squared_distance(new: NDArray[np.int32], old: NDArray[np.int32]) -> int:
    """Return Σ (new - old)² exactly, for at most 2^28 values; both arrays share a byte order."""
    kernels = speed.kernels(new.nbytes)
    if kernels is not None:
        new, old = np.ascontiguousarray(new), np.ascontiguousarray(old)
        swapped = not new.dtype.isnative
        above, below = kernels.squares(new.ctypes.data, old.ctypes.data, new.size, swapped)
        return (int(above) << 32) + int(below)
    new, old = new.astype(np.int32), old.astype(np.int32)
    low = min(int(new.min()), int(old.min()))
    high = max(int(new.max()), int(old.max()))
    # Updates are close to the model in practice: one product in place of three.
    if low >= -_SMALL and high <= _SMALL and new.size <= _BLOCK_BYTES // STORED.itemsize:
        values = (new - old).astype(np.int64)
        return int(values @ values)
    return sum_of_squares(new.astype(np.int64) - old)


def sum_of_squares(values: NDArray[np.int64]) -> int:
    """Return Σ values² exactly, for |values| <= 2^32 and at most 2^28 of them.

    Each value is split into high · 2^16 + low with 0 <= low < 2^16 and |high| <= 2^16, so that the
    three sums of products stay within 2^60.
    """
    high, low = values >> 16, values & 0xFFFF
    squares_high, mixed, squares_low = high @ high, high @ low, low @ low
    return (int(squares_high) << 32) + (int(mixed) << 17) + int(squares_low)


def _in_step(
    spec: Spec, index: int, update: LayerBlocks, model: LayerBlocks
) -> Iterator[tuple[memoryview, memoryview]]:
    """Yield layer `index` of both in equally long blocks, which add up to the layer's size."""
    name, size = spec.layers[index].name, spec.layer_bytes(index)
    theirs, ours = _rechunked(update(index), size), _rechunked(model(index), size)
    while True:
        # One after the other instead of by zip: whose stream is at fault decides the error.
        try:
            new = next(theirs, None)
        except _WrongSizeError as error:
            raise Rejected(Check.DIGESTS, f"layer {name} has {error}") from None
        try:
            old = next(ours, None)
        except _WrongSizeError as error:
            raise Misconfigured(f"this copy of the model: layer {name} has {error}") from None
        if new is None or old is None:
            return
        yield new, old


class _WrongSizeError(Exception):
    """A stream does not have the layer's size."""


def _rechunked(blocks: Iterator[bytes], size: int) -> Iterator[memoryview]:
    """Yield the same bytes in blocks of `_BLOCK_BYTES`, only the last one shorter."""
    pending = b""
    seen = 0
    for block in blocks:
        seen += len(block)
        if seen > size:  # before it is used: an endless stream must end here
            raise _WrongSizeError(f"more than the {size:,} bytes the spec asks for")
        view = memoryview(pending + block if pending else block)
        whole = len(view) - len(view) % _BLOCK_BYTES
        for start in range(0, whole, _BLOCK_BYTES):
            yield view[start : start + _BLOCK_BYTES]
        pending = bytes(view[whole:])
    if seen < size:
        raise _WrongSizeError(f"{seen:,} bytes, the spec asks for {size:,}")
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
