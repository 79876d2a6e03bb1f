"""Updates and models as folders of layer files, pinned with a manifest and fetched by its digest.

    folder/00000.layer      layer 0 of the spec, docs/protocol.md §3
    folder/00001.layer      …
    folder/bundle           of a masked update: what it publishes of its secrets (§13)

In the store a layer file is its blocks of 1 MiB, which the manifest lists. Fetching returns
verified bytes or raises: the manifest is checked against its digest, each block against the
manifest, and sizes are known from the spec before anything is fetched.
"""

import math
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from profiling.recorder import current
from protocol.checks import Check
from protocol.encoding import (
    BLOCK_BYTES,
    Kind,
    PublishedKind,
    layer_bytes,
    layer_values,
    leaf_bytes,
    value_type,
)
from protocol.errors import DiskFault, Misconfigured, Rejected, Unavailable, WrongBytes
from protocol.manifest import LayerEntry, Manifest
from protocol.screening import check_manifest
from protocol.spec import Spec
from protocol.tree import TreeBuilder, stream_proof
from protocol.types import Address, Digest, RoundId, parse_digest
from storage.blocks import ReadableStore, Store
from storage.digests import block_digests
from storage.files import replace_file, sync_files

NO_FEDERATION: Final = Address("0x" + 40 * "0")
T = TypeVar("T")

# An update is requested again before it is rejected as unreachable, which costs its author the
# round.
_ATTEMPTS: Final = 3
_PAUSE_SECONDS: Final = 0.2
# Blocks of one update that are asked for at once. A Kubo takes 40 ms to get a block from another,
# however small it is. More of them, of 64 updates together, and open files would run out.
_MOST_AT_ONCE: Final = 8
_HELD_BYTES: Final = 4 << 20  # in memory, of one update: large blocks are fewer at once


@dataclass(frozen=True)
class Subject:
    """The subject of a manifest: one federation, one round, an update or a model."""

    chain_id: int
    federation: Address
    round_id: RoundId
    kind: PublishedKind


@dataclass(frozen=True)
class Published:
    """An update or a model as the chain names it, with all that its bytes are checked against.

    `root` is the tree root over its layers, `manifest` the SHA-256 of its manifest, which must have
    this `subject` and agree with `spec`. A model's subject is the round that starts from it.
    """

    spec: Spec
    subject: Subject
    root: Digest
    manifest: Digest


def initial_subject(chain_id: int) -> Subject:
    """Return the subject of an initial model's manifest: round 0 and the zero address."""
    # The contract's terms contain the manifest's digest, so the manifest cannot name the contract.
    return Subject(chain_id, NO_FEDERATION, RoundId(0), "model")


class LayerFolder:
    """The layer files of one update or model, in the order of the spec."""

    def __init__(self, path: Path, kind: Kind) -> None:
        self.path, self.kind = path, kind

    def layer_path(self, index: int) -> Path:
        """Return the path of the file of layer `index`."""
        return self.path / f"{index:05d}.layer"

    @property
    def bundle_path(self) -> Path:
        """The path of a masked update's bundle."""
        return self.path / "bundle"

    def paths(self, spec: Spec) -> list[Path]:
        """Return the paths of all layer files, in the order of the spec."""
        return [self.layer_path(index) for index in range(len(spec.layers))]

    def blocks(self, index: int) -> Iterator[bytes]:
        """Yield the bytes of layer `index` in blocks of 1 MiB; the last may be shorter."""
        with self.layer_path(index).open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block

    def values(self, index: int, start: int, count: int) -> NDArray[Any]:
        """Return `count` values of layer `index` from value `start` on, as they are stored."""
        stored = value_type(self.kind)
        offset = start * stored.itemsize
        return np.fromfile(self.layer_path(index), stored, count=count, offset=offset)

    def root(self, spec: Spec) -> Digest:
        """Return the tree root over all layer files (docs/protocol.md §4)."""
        builder = TreeBuilder(leaf_bytes(self.kind))
        for index in range(len(spec.layers)):
            for block in self.blocks(index):
                builder.update(block)
        return builder.root()

    def holds(self, spec: Spec, root: Digest) -> bool:
        """Whether every layer file is there, has the spec's size, and all hash to `root`."""
        return all(self._has(spec, index) for index in range(len(spec.layers))) and (
            self.root(spec) == root
        )

    def prove(self, spec: Spec, leaf: int) -> tuple[bytes, tuple[Digest, ...]]:
        """Return leaf number `leaf` and its proof (docs/protocol.md §4), reading the files once.

        Raises Misconfigured when there is no such leaf.
        """
        blocks = (block for index in range(len(spec.layers)) for block in self.blocks(index))
        values, proof = stream_proof(blocks, leaf_bytes(self.kind), leaf)
        return values, tuple(proof)

    def write(self, spec: Spec, values: Sequence[NDArray[Any]]) -> None:
        """Write `values`, one array per layer, as layer files; durable when this returns.

        The arrays are int32 for a model, int8 for an update. Raises Misconfigured for another type
        or shape.
        """
        with current().phase("encode") as span:
            for index, (layer, array) in enumerate(zip(spec.layers, values, strict=True)):
                if array.shape != layer.shape:
                    raise Misconfigured(
                        f"layer {layer.name} has shape {array.shape}, "
                        f"the spec asks for {layer.shape}"
                    )
                with span.layer(index) as meter:
                    data = layer_bytes(array, self.kind)
                    replace_file(self.layer_path(index), data)
                    meter.add(written=len(data))
            # Once for all files: syncing each took most of the time (1.9 s for 240 layers, now
            # 0.1).
            sync_files(self.paths(spec))

    def read(self, spec: Spec) -> list[NDArray[Any]]:
        """Return the values of all layers in their shapes, int32 or int8, without padding."""
        current().add(read=spec.total_bytes(self.kind))
        return [
            layer_values(self.layer_path(index).read_bytes(), layer.shape, self.kind)
            for index, layer in enumerate(spec.layers)
        ]

    def missing(self, spec: Spec, manifest: Manifest) -> list[int]:
        """Return the layers whose files are not there or not what `manifest` lists."""
        # By size first, so that a file that was cut off is not hashed for nothing.
        there = [index for index in range(len(spec.layers)) if self._has(spec, index)]
        found = block_digests([self.layer_path(index) for index in there])
        right = {
            index
            for index, digests in zip(there, found, strict=True)
            if digests == manifest.layers[index].digests
        }
        return [index for index in range(len(spec.layers)) if index not in right]

    def _has(self, spec: Spec, index: int) -> bool:
        path = self.layer_path(index)
        return path.exists() and path.stat().st_size == spec.layer_bytes(index, self.kind)


def build_manifest(
    folder: LayerFolder,
    spec: Spec,
    subject: Subject,
    root: Digest,
    digests: Sequence[Sequence[Digest]] | None = None,
) -> Manifest:
    """Return the manifest of `folder`; nothing is sent.

    `digests` are the SHA-256 of the blocks of each layer file, if known (`examine`). Raises
    Misconfigured when the folder is not of the subject's kind, or a masked update has no bundle.
    """
    if folder.kind != subject.kind:
        raise Misconfigured(f"{folder.path} is {folder.kind}, the manifest of {subject.kind}")
    known = block_digests(folder.paths(spec)) if digests is None else digests
    entries = [
        LayerEntry(name=layer.name, shape=layer.shape, blocks=tuple(each.hex() for each in blocks))
        for layer, blocks in zip(spec.layers, known, strict=True)
    ]
    bundle = sha256(_read_bundle(folder)).hexdigest() if folder.kind == "masked" else None
    return Manifest(
        chain_id=subject.chain_id,
        federation=subject.federation,
        round=subject.round_id,
        kind=subject.kind,
        spec=spec.digest().hex(),
        root=root.hex(),
        layers=tuple(entries),
        bundle=bundle,
    )


def _read_bundle(folder: LayerFolder) -> bytes:
    try:
        return folder.bundle_path.read_bytes()
    except OSError as error:
        raise Misconfigured(f"{folder.bundle_path}: {error.strerror}") from error


class Pinning:
    """Pins layer files while later layers are still being written; or only stores them."""

    def __init__(self, store: Store, folder: LayerFolder, *, pinned: bool = True) -> None:
        self._store, self._folder, self._is_pinned = store, folder, pinned
        self._waiting: deque[int] = deque()
        self._digests: dict[int, list[Digest]] = {}
        self._jobs: list[Future[None]] = []
        self._span = current()  # the span belongs to this thread, not to the one that pins

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(1)
        return self

    def __exit__(self, *error: object) -> None:
        # After a failure nobody needs the layers that are still queued.
        self._pool.shutdown(cancel_futures=True)

    def begin(self, index: int) -> None:
        """Start pinning the file of layer `index`, which must be complete."""
        self._digests[index] = []
        self._waiting.append(index)
        self._jobs.append(self._pool.submit(self._put_waiting))

    def finish(self, manifest: Manifest) -> Digest:
        """Wait for every layer file, add the manifest, and return the manifest's digest.

        Raises WrongBytes when a file does not match the manifest, Unavailable when the store fails.
        """
        for index in range(len(manifest.layers)):
            if index not in self._digests:
                self.begin(index)
        for job in self._jobs:
            job.result()
        for index, entry in enumerate(manifest.layers):
            if tuple(self._digests[index]) != entry.digests:
                raise WrongBytes(f"layer {entry.name} is not what its manifest lists")
        if manifest.bundle is not None:
            raw = _read_bundle(self._folder)
            if sha256(raw).hexdigest() != manifest.bundle:
                raise WrongBytes(f"{self._folder.bundle_path} is not what its manifest lists")
            self._store.put_blocks([raw], pinned=self._is_pinned)
        # Last, so that a manifest in the store means that its files are there.
        return self._store.put_blocks([manifest.to_bytes()], pinned=self._is_pinned)[0]

    def _put_waiting(self) -> None:
        """Put all files that wait by now: small ones that came in the meantime share a request."""
        put: list[tuple[int, int]] = []

        def blocks() -> Iterator[bytes]:
            while self._waiting:
                index = self._waiting.popleft()
                for block in self._folder.blocks(index):
                    put.append((index, len(block)))
                    yield block

        if not self._waiting:
            return  # they went with an earlier request
        digests = self._store.put_blocks(blocks(), pinned=self._is_pinned)
        for digest, (index, size) in zip(digests, put, strict=True):
            self._digests[index].append(digest)
            with self._span.layer(index) as meter:
                meter.add(sent=size)


def pin(store: Store, folder: LayerFolder, manifest: Manifest, *, pinned: bool = True) -> Digest:
    """Pin every layer file and the manifest, or only store them; return the manifest's digest.

    Raises WrongBytes when a file no longer matches the manifest.
    """
    with Pinning(store, folder, pinned=pinned) as pinning:
        return pinning.finish(manifest)


def remove_unused(
    store: Store,
    unused: Iterable[Manifest],
    kept: Iterable[Manifest],
    spec: Spec,
    *,
    also_pinned: bool = True,
) -> None:
    """Unpin and remove the blocks of manifests that nobody needs, and the manifests themselves.

    Blocks that a kept manifest shares stay, as do the kept manifests, the spec and the held-out
    set. `kept` has to name everything else that this store must keep: a stranger's manifest may
    list anybody's blocks. Without `also_pinned`, what somebody pinned stays as well. Raises
    Unavailable when the store fails; it may be called again.
    """
    needed = {spec.digest(), parse_digest(spec.evaluation_digest)}
    for manifest in kept:
        needed |= _blocks_of(manifest)
    listed = {block for manifest in unused for block in _blocks_of(manifest)}
    store.remove_blocks(listed - needed, also_pinned=also_pinned)


def _blocks_of(manifest: Manifest) -> set[Digest]:
    listed = {digest for entry in manifest.layers for digest in entry.digests}
    if manifest.bundle is not None:
        listed.add(parse_digest(manifest.bundle))
    return {manifest.digest(), *listed}


def fetch_layers(
    store: ReadableStore,
    manifest: Manifest,
    spec: Spec,
    folder: LayerFolder,
    deadline: float = math.inf,
) -> None:
    """Fetch every layer file into `folder`, verifying each block on arrival.

    Existing files that match are kept; a new one appears whole or not at all. `deadline` is in
    seconds of time.monotonic(). Raises Unavailable or WrongBytes, and Rejected(Check.DIGESTS) when
    a block does not have the size that it has by the spec.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    span = current()  # the span belongs to this thread, not to those that fetch
    wanted: list[tuple[_Arriving, int, Digest, int]] = []
    with ExitStack() as files:
        for index in folder.missing(spec, manifest):
            sizes = spec.block_sizes(index, folder.kind)
            file = files.enter_context(_Arriving(folder, index, len(sizes)))
            starts = range(0, len(sizes) * BLOCK_BYTES, BLOCK_BYTES)
            blocks = zip(starts, manifest.layers[index].digests, sizes, strict=True)
            wanted += [(file, start, digest, size) for start, digest, size in blocks]

        def fetch(file: _Arriving, start: int, digest: Digest, size: int) -> None:
            with span.layer(file.index):
                file.write(start, store.get_block(digest, size, deadline))

        largest = max((size for _, _, _, size in wanted), default=1)
        with ThreadPoolExecutor(min(_MOST_AT_ONCE, _HELD_BYTES // largest)) as pool:
            jobs = [pool.submit(fetch, *each) for each in wanted]
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                # The first failure decides; what others still list is not worth its bytes.
                pool.shutdown(cancel_futures=True)
                raise


class _Arriving:
    """A layer file whose blocks arrive in any order, from several threads."""

    def __init__(self, folder: LayerFolder, index: int, blocks: int) -> None:
        self.index = index
        self._path = folder.layer_path(index)
        # Beside the layer, so that the rename at the end is atomic; not `*.layer`.
        self._part = folder.path / f".{self._path.name}.{secrets.token_hex(8)}"
        self._left = blocks
        self._lock = threading.Lock()

    def write(self, start: int, block: bytes) -> None:
        """Write a verified block; with the last one, the file gets its name."""
        try:
            handle = os.open(self._part, os.O_WRONLY | os.O_CREAT, 0o644)
            try:
                os.pwrite(handle, block, start)
            finally:
                os.close(handle)
            with self._lock:
                self._left -= 1
                is_whole = not self._left
            if is_whole:
                self._part.replace(self._path)
        except OSError as error:
            raise DiskFault(f"cannot write {self._path}: {error.strerror}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._part.unlink(missing_ok=True)


def fetch_update(
    store: ReadableStore, update: Published, folder: LayerFolder, deadline: float = math.inf
) -> Manifest:
    """Fetch an update's manifest and layers into `folder`, and its bundle; return the manifest.

    Raises Rejected with the number of the check that failed (docs/protocol.md §6): 1 when the right
    bytes are unavailable after several attempts, or by `deadline`, in seconds of time.monotonic();
    2 to 5 as they say, and 6 for the manifest's own root.
    """
    try:
        raw = _persistently(lambda: store.get_block(update.manifest, deadline=deadline), deadline)
        manifest = _check_manifest(raw, update.subject, update)
        _persistently(
            lambda: fetch_layers(store, manifest, update.spec, folder, deadline), deadline
        )
        if manifest.bundle is not None:
            digest = parse_digest(manifest.bundle)
            raw = _persistently(lambda: store.get_block(digest, deadline=deadline), deadline)
            replace_file(folder.bundle_path, raw)
    # Also for wrong bytes from the daemon, of which nobody can tell whose fault they are
    # (docs/decisions/0003-wrong-bytes-are-unreachable.md).
    except Unavailable as error:
        raise Rejected(Check.REACHABLE, str(error)) from error
    return manifest


def _persistently(fetch: Callable[[], T], deadline: float) -> T:
    """Return the result of `fetch`, trying again a few times when bytes are missing or wrong."""
    for attempt in range(1, _ATTEMPTS):
        pause_s = _PAUSE_SECONDS * attempt
        try:
            return fetch()
        except Unavailable:
            if time.monotonic() + pause_s >= deadline:
                raise
            time.sleep(pause_s)
    return fetch()


def fetch_model(
    store: ReadableStore, model: Published, folder: LayerFolder, deadline: float = math.inf
) -> LayerFolder:
    """Fetch the model that stood before round `model.subject.round_id` into `folder`; return it.

    Recomputes its root. Raises Unavailable when bytes are unavailable, or by `deadline`, in seconds
    of time.monotonic(), and Rejected when the manifest is not one of this model, or its bytes are
    not the model's. Either way the model can be computed instead: its manifest is only a hint.
    """
    # The manifest may be of any earlier round: one that accepts no update leaves the model as it
    # was.
    raw = store.get_block(model.manifest, deadline=deadline)
    before, made_in = model.subject.round_id, RoundId(Manifest.parse(raw).round)
    if made_in >= before:
        raise Rejected(
            Check.ROUND_AND_SPEC, f"the model is of round {made_in}, not before {before}"
        )
    about = initial_subject(model.subject.chain_id)
    if made_in:
        about = replace(model.subject, round_id=made_in)
    manifest = _check_manifest(raw, about, model)
    fetch_layers(store, manifest, model.spec, folder, deadline)
    # The manifest says which root its layers have; only hashing them shows that it is true.
    found = folder.root(model.spec)
    if found != model.root:
        raise Rejected(Check.ROOT, f"the layers hash to {found.hex()}, not to {model.root.hex()}")
    return folder


def _check_manifest(raw: bytes, subject: Subject, published: Published) -> Manifest:
    return check_manifest(
        raw,
        spec=published.spec,
        federation=subject.federation,
        chain_id=subject.chain_id,
        round_id=subject.round_id,
        kind=subject.kind,
        root=published.root,
    )
