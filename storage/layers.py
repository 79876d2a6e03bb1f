"""Updates and models as folders of layer files, pinned with a manifest and fetched by its digest.

    folder/00000.layer      layer 0 of the spec, docs/protocol.md §3
    folder/00001.layer      …

Fetching returns verified bytes or raises: the manifest block is checked against its digest, each
layer file against the manifest, and sizes are known from the spec before anything is fetched.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from profiling.recorder import current
from protocol.checks import Check
from protocol.encoding import layer_bytes, layer_values
from protocol.errors import Misconfigured, Rejected, Unavailable, WrongBytes
from protocol.manifest import Kind, LayerEntry, Manifest
from protocol.screening import check_manifest
from protocol.spec import Spec
from protocol.tree import TreeBuilder, stream_proof
from protocol.types import Address, Digest, RoundId
from storage.digests import file_digests
from storage.files import replace_file, sync_files
from storage.ipfs import ContentStore, Contradiction
from storage.unixfs import compute_cid

BLOCK_BYTES: Final = 1 << 20
NO_FEDERATION: Final = Address("0x" + 40 * "0")
T = TypeVar("T")

# An update is requested again before it is rejected as unreachable, which costs its author the
# round.
_ATTEMPTS: Final = 3
_PAUSE_SECONDS: Final = 0.2
_HASHES_AT_ONCE: Final = 2
_FETCHES_AT_ONCE: Final = 4  # layers of one update; more would only queue up in the one daemon


@dataclass(frozen=True)
class Subject:
    """The subject of a manifest: one federation, one round, an update or a model."""

    chain_id: int
    federation: Address
    round_id: RoundId
    kind: Kind


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

    def __init__(self, path: Path) -> None:
        self.path = path

    def layer_path(self, index: int) -> Path:
        """Return the path of the file of layer `index`."""
        return self.path / f"{index:05d}.layer"

    def paths(self, spec: Spec) -> list[Path]:
        """Return the paths of all layer files, in the order of the spec."""
        return [self.layer_path(index) for index in range(len(spec.layers))]

    def blocks(self, index: int) -> Iterator[bytes]:
        """Yield the bytes of layer `index` in blocks of 1 MiB; the last may be shorter."""
        with self.layer_path(index).open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                yield block

    def root(self, spec: Spec) -> Digest:
        """Return the tree root over all layer files (docs/protocol.md §4)."""
        builder = TreeBuilder(spec.encoding.leaf_bytes)
        for index in range(len(spec.layers)):
            for block in self.blocks(index):
                builder.update(block)
        return builder.root()

    def prove(self, spec: Spec, leaf: int) -> tuple[bytes, tuple[Digest, ...]]:
        """Return leaf number `leaf` and its proof (docs/protocol.md §4), reading the files once.

        Raises Misconfigured when there is no such leaf.
        """
        size = spec.encoding.leaf_bytes

        def whole_leaves() -> Iterator[bytes]:
            for index in range(len(spec.layers)):
                with self.layer_path(index).open("rb") as file:
                    while block := file.read(max(BLOCK_BYTES // size, 1) * size):
                        yield block

        values, proof = stream_proof(whole_leaves(), size, leaf)
        return values, tuple(proof)

    def write(self, spec: Spec, values: Sequence[NDArray[np.int32]]) -> None:
        """Write int32 `values`, one array per layer, as layer files; durable when this returns."""
        with current().phase("encode") as span:
            for index, (layer, array) in enumerate(zip(spec.layers, values, strict=True)):
                if array.shape != layer.shape:
                    raise Misconfigured(
                        f"layer {layer.name} has shape {array.shape}, "
                        f"the spec asks for {layer.shape}"
                    )
                with span.layer(index) as meter:
                    data = layer_bytes(array, spec.encoding.leaf_values)
                    replace_file(self.layer_path(index), data)
                    meter.add(written=len(data))
            # Once for all files: syncing each took most of the time (1.9 s for 240 layers, now
            # 0.1).
            sync_files(self.paths(spec))

    def read(self, spec: Spec) -> list[NDArray[np.int32]]:
        """Return the int32 values of all layers in their shapes, without padding."""
        leaf_values = spec.encoding.leaf_values
        current().add(read=spec.total_bytes)
        return [
            layer_values(self.layer_path(index).read_bytes(), layer.shape, leaf_values)
            for index, layer in enumerate(spec.layers)
        ]


def build_manifest(
    folder: LayerFolder,
    spec: Spec,
    subject: Subject,
    root: Digest,
    digests: Sequence[Digest] | None = None,
) -> Manifest:
    """Return the manifest of `folder`; CIDs are computed here and nothing is sent.

    `digests` are the SHA-256 of its layer files, if known.
    """

    def cid_of(path: Path) -> str:
        with path.open("rb") as file:
            return compute_cid(file)

    paths = folder.paths(spec)
    with ThreadPoolExecutor(_HASHES_AT_ONCE) as pool:
        cids = list(pool.map(cid_of, paths))
    known = file_digests(paths) if digests is None else digests
    entries = [
        LayerEntry(name=layer.name, shape=layer.shape, cid=cid, sha256=digest.hex())
        for layer, cid, digest in zip(spec.layers, cids, known, strict=True)
    ]
    return Manifest(
        chain_id=subject.chain_id,
        federation=subject.federation,
        round=subject.round_id,
        kind=subject.kind,
        spec=spec.digest().hex(),
        root=root.hex(),
        layers=tuple(entries),
    )


class Pinning:
    """Pins layer files while later layers are still being written."""

    def __init__(self, store: ContentStore, folder: LayerFolder) -> None:
        self._store, self._folder = store, folder
        self._cids: dict[int, Future[str]] = {}
        self._span = current()  # the span belongs to this thread, not to the one that pins

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(1)
        return self

    def __exit__(self, *error: object) -> None:
        # After a failure nobody needs the layers that are still queued.
        self._pool.shutdown(cancel_futures=True)

    def begin(self, index: int) -> None:
        """Start pinning the file of layer `index`, which must be complete."""

        def add() -> str:
            with self._span.layer(index):
                return self._store.add_file(self._folder.layer_path(index))

        self._cids[index] = self._pool.submit(add)

    def finish(self, manifest: Manifest) -> Digest:
        """Wait for every layer file, add the manifest, and return the manifest's digest.

        Raises WrongBytes when a file does not match the manifest, Unavailable when the store fails.
        """
        for index, entry in enumerate(manifest.layers):
            if index not in self._cids:
                self.begin(index)
            cid = self._cids[index].result()
            if cid != entry.cid:
                raise WrongBytes(f"layer {entry.name} is {cid}, its manifest says {entry.cid}")
        # Last, so that a manifest in the store means that its files are there.
        return self._store.put_block(manifest.to_bytes())


def pin(store: ContentStore, folder: LayerFolder, manifest: Manifest) -> Digest:
    """Pin every layer file and the manifest; return the manifest's digest.

    Raises WrongBytes when a file no longer matches the manifest.
    """
    with Pinning(store, folder) as pinning:
        return pinning.finish(manifest)


def fetch_layers(store: ContentStore, manifest: Manifest, spec: Spec, folder: LayerFolder) -> None:
    """Fetch every layer file into `folder`, verifying each against the manifest on arrival.

    Existing files that match are kept. Raises Unavailable or WrongBytes.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    span = current()  # the span belongs to this thread, not to those that fetch

    def fetch(index: int) -> None:
        entry, path = manifest.layers[index], folder.layer_path(index)
        with span.layer(index):
            store.fetch_file(entry.cid, spec.layer_bytes(index), entry.digest, path)

    with ThreadPoolExecutor(_FETCHES_AT_ONCE) as pool:
        for _ in pool.map(fetch, _missing(manifest, spec, folder)):
            pass


def _missing(manifest: Manifest, spec: Spec, folder: LayerFolder) -> list[int]:
    """Return the layers whose files are missing or do not match the manifest."""
    # By size first, so that a file that was cut off is not hashed for nothing.
    there = [
        index
        for index, path in enumerate(folder.paths(spec))
        if path.exists() and path.stat().st_size == spec.layer_bytes(index)
    ]
    found = file_digests([folder.layer_path(index) for index in there])
    right = {
        index
        for index, digest in zip(there, found, strict=True)
        if digest == manifest.layers[index].digest
    }
    return [index for index in range(len(spec.layers)) if index not in right]


def fetch_update(store: ContentStore, update: Published, folder: LayerFolder) -> Manifest:
    """Fetch an update's manifest and layers into `folder`; return the manifest.

    Raises Rejected with the number of the check that failed (docs/protocol.md §6): 2, 3, 4 or 6
    for the manifest; 5 when the manifest contradicts itself; 1 when the right bytes are unavailable
    after several attempts.
    """
    try:
        raw = _persistently(lambda: store.get_block(update.manifest))
        manifest = _check_manifest(raw, update.subject, update)
        _persistently(lambda: fetch_layers(store, manifest, update.spec, folder))
    except Contradiction as error:
        # The author's fault: no bytes fit both the CID and the SHA-256 of the manifest.
        raise Rejected(Check.DIGESTS, str(error)) from error
    # Also for wrong bytes from the daemon, of which nobody can tell whose fault they are
    # (docs/decisions/0003-wrong-bytes-are-unreachable.md).
    except Unavailable as error:
        raise Rejected(Check.REACHABLE, str(error)) from error
    return manifest


def _persistently(fetch: Callable[[], T]) -> T:
    """Return the result of `fetch`, trying again a few times when bytes are missing or wrong."""
    for attempt in range(1, _ATTEMPTS):
        try:
            return fetch()
        except Contradiction:
            raise  # no daemon will ever have such bytes
        except Unavailable:
            time.sleep(_PAUSE_SECONDS * attempt)
    return fetch()


def fetch_model(store: ContentStore, model: Published, folder: LayerFolder) -> LayerFolder:
    """Fetch the model that stood before round `model.subject.round_id` into `folder`; return it.

    Recomputes its root. Raises Unavailable when the bytes are unavailable, and Rejected when they
    are not the model's.
    """
    # The manifest may be of any earlier round: one that accepts no update leaves the model as it
    # was.
    raw = store.get_block(model.manifest)
    before, made_in = model.subject.round_id, RoundId(Manifest.parse(raw).round)
    if made_in >= before:
        raise Rejected(
            Check.ROUND_AND_SPEC, f"the model is of round {made_in}, not before {before}"
        )
    about = initial_subject(model.subject.chain_id)
    if made_in:
        about = replace(model.subject, round_id=made_in)
    manifest = _check_manifest(raw, about, model)
    fetch_layers(store, manifest, model.spec, folder)
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
