"""An update or a model as a folder of layer files: pinned with a manifest, fetched by its digest.

    folder/00000.layer      layer 0 of the spec, docs/protocol.md §3
    folder/00001.layer      …

Whoever fetches gets verified bytes or an error: the manifest block is hashed against its digest,
each layer file against the manifest, and sizes are known from the spec before anything is fetched.
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

_ATTEMPTS: Final = 3
_PAUSE_SECONDS: Final = 0.2
_HASHES_AT_ONCE: Final = 2
_FETCHES_AT_ONCE: Final = 4  # layers of one update; more only queue up in one daemon


@dataclass(frozen=True)
class Subject:
    """What a manifest must be about: one federation, one round, an update or a model."""

    chain_id: int
    federation: Address
    round_id: RoundId
    kind: Kind


@dataclass(frozen=True)
class Published:
    """An update or a model as the chain names it, and all that its bytes are checked against.

    `root` is the tree root over its layers, `manifest` the SHA-256 of its manifest, which must be
    about `subject` and agree with `spec`. A model's subject is the round that starts from it.
    """

    spec: Spec
    subject: Subject
    root: Digest
    manifest: Digest


def initial_subject(chain_id: int) -> Subject:
    """Return what an initial model's manifest is about: round 0 and the zero address.

    The contract fixes the manifest's digest, so the manifest cannot name the contract.
    """
    return Subject(chain_id, NO_FEDERATION, RoundId(0), "model")


class LayerFolder:
    """The layer files of one update or model, in the order of the spec."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def layer_path(self, index: int) -> Path:
        """Where the file of layer `index` is."""
        return self.path / f"{index:05d}.layer"

    def paths(self, spec: Spec) -> list[Path]:
        """Where all layer files are, in the order of the spec."""
        return [self.layer_path(index) for index in range(len(spec.layers))]

    def blocks(self, index: int) -> Iterator[bytes]:
        """Yield the bytes of layer `index` in blocks of 1 MiB, the last one shorter."""
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
        """Return leaf `leaf` of all layers and its proof (docs/protocol.md §4), in one pass.

        Misconfigured when there is no such leaf.
        """
        values, proof = stream_proof(self._whole_leaves(spec), spec.encoding.leaf_bytes, leaf)
        return values, tuple(proof)

    def _whole_leaves(self, spec: Spec) -> Iterator[bytes]:
        size = spec.encoding.leaf_bytes
        for index in range(len(spec.layers)):
            with self.layer_path(index).open("rb") as file:
                while block := file.read(max(BLOCK_BYTES // size, 1) * size):
                    yield block

    def write(self, spec: Spec, values: Sequence[NDArray[np.int32]]) -> None:
        """Write int32 `values`, one array a layer, as layer files; on disk when this returns."""
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
            sync_files(self.paths(spec))

    def read(self, spec: Spec) -> list[NDArray[np.int32]]:
        """Return the int32 values of all layers, in their shapes."""
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
    """Return the manifest of `folder`; nothing is sent, CIDs are computed here.

    `digests` are the SHA-256 of its layer files, where they are known.
    """
    paths = folder.paths(spec)
    with ThreadPoolExecutor(_HASHES_AT_ONCE) as pool:
        cids = list(pool.map(_file_cid, paths))
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
    """Adds layer files to the store, pinned, while the layers after them are still made."""

    def __init__(self, store: ContentStore, folder: LayerFolder) -> None:
        self._store, self._folder = store, folder
        self._cids: dict[int, Future[str]] = {}
        self._span = current()  # of this thread, not of the one that pins

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(1)
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def begin(self, index: int) -> None:
        """Add the file of layer `index`, which is complete."""
        self._cids[index] = self._pool.submit(self._add, index)

    def _add(self, index: int) -> str:
        with self._span.layer(index):
            return self._store.add_file(self._folder.layer_path(index))

    def finish(self, manifest: Manifest) -> Digest:
        """Wait for every layer file, add the manifest, and return the manifest's digest.

        Raises WrongBytes when a file is not what the manifest says, Unavailable as the store does.
        """
        for index, entry in enumerate(manifest.layers):
            if index not in self._cids:
                self.begin(index)
            cid = self._cids[index].result()
            if cid != entry.cid:
                raise WrongBytes(f"layer {entry.name} is {cid}, its manifest says {entry.cid}")
        return self._store.put_block(manifest.to_bytes())


def pin(store: ContentStore, folder: LayerFolder, manifest: Manifest) -> Digest:
    """Pin every layer file and the manifest; return the manifest's digest.

    Raises WrongBytes when a file is no longer what the manifest says.
    """
    with Pinning(store, folder) as pinning:
        return pinning.finish(manifest)


def fetch_layers(store: ContentStore, manifest: Manifest, spec: Spec, folder: LayerFolder) -> None:
    """Fetch every layer file into `folder`, each verified against the manifest on arrival.

    Files that are there already and right are kept. Raises Unavailable or WrongBytes.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    span = current()  # of this thread, not of those that fetch

    def fetch(index: int) -> None:
        entry, path = manifest.layers[index], folder.layer_path(index)
        with span.layer(index):
            store.fetch_file(entry.cid, spec.layer_bytes(index), entry.digest, path)

    with ThreadPoolExecutor(_FETCHES_AT_ONCE) as pool:
        for _ in pool.map(fetch, _missing(manifest, spec, folder)):
            pass


def _missing(manifest: Manifest, spec: Spec, folder: LayerFolder) -> list[int]:
    """The layers whose files are not there, or not what the manifest says."""
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
    for the manifest; 5 when the manifest contradicts itself, which is its author's fault; 1 when
    the right bytes are unavailable, also after asking again, whether nothing came or the daemon
    sent something else.
    """
    try:
        raw = _persistently(lambda: store.get_block(update.manifest))
        manifest = _check_manifest(raw, update.subject, update)
        _persistently(lambda: fetch_layers(store, manifest, update.spec, folder))
    except Contradiction as error:
        raise Rejected(Check.DIGESTS, str(error)) from error
    except Unavailable as error:
        raise Rejected(Check.REACHABLE, str(error)) from error
    return manifest


def _persistently(fetch: Callable[[], T]) -> T:
    """Return what `fetch` does, asking again a few times when bytes are missing or wrong."""
    for attempt in range(1, _ATTEMPTS):
        try:
            return fetch()
        except Contradiction:
            raise
        except Unavailable:
            time.sleep(_PAUSE_SECONDS * attempt)
    return fetch()


def fetch_model(store: ContentStore, model: Published, folder: LayerFolder) -> LayerFolder:
    """Fetch the model that stood before round `model.subject.round_id` into `folder`; return it.

    Its root is recomputed. The manifest may be of any earlier round: a round that accepts no
    update leaves the model as it was. Raises Unavailable when the bytes are, and Rejected when
    they are not the model's.
    """
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


def _file_cid(path: Path) -> str:
    with path.open("rb") as file:
        return compute_cid(file)
