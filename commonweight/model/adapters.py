"""The adapter that a person means: a federation's current model, or what a manifest's CID names.

A CID proves its bytes and says which federation and round they are of; that a federation settled
on them is for its contract to say, as it does for the current model.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from chain.federation import connect_federation
from chain.location import FederationLocation
from node.settings import ParticipantSettings
from protocol.cid import digest_of_raw_cid
from protocol.errors import Misconfigured
from protocol.manifest import Manifest
from protocol.spec import Spec
from protocol.types import RoundId, parse_digest
from runtime.home import federation_file, newest_run
from storage.ipfs import ContentStore
from storage.layers import LayerFolder, Published, Subject, fetch_model, fetch_update

if TYPE_CHECKING:
    from training.session import IntegerLayers

DEFAULT_IPFS: Final = "http://127.0.0.1:5001"


@dataclass(frozen=True)
class Place:
    """What the user said about where things are; None where nothing was said.

    `federation` is a federation file or a run's folder, `ipfs_url` an IPFS daemon's RPC, `source`
    where this machine finds the base model.
    """

    federation: Path | None = None
    ipfs_url: str | None = None
    source: str | None = None

    def base_source(self) -> str:
        """Return `source`, or what the participants of the run beside the federation file use."""
        if self.source is not None:
            return self.source
        folder = federation_file(self.federation).parent
        settings = sorted((folder / "participants").glob("*/participant.toml"))
        if not settings:
            raise Misconfigured("give --source: where this machine finds the base model")
        return ParticipantSettings.load(settings[0]).model

    def store(self) -> ContentStore:
        """Return the content store: the one named, else the federation's, else a local daemon."""
        if self.ipfs_url is not None:
            return ContentStore(self.ipfs_url)
        if self.federation is None and newest_run() is None:
            return ContentStore(DEFAULT_IPFS)
        return ContentStore(FederationLocation.load(federation_file(self.federation)).ipfs_url)


@dataclass(frozen=True)
class FederatedAdapter:
    """An adapter as a federation has it: integers, verified, with the spec that says what of."""

    spec: Spec
    layers: "IntegerLayers"
    name: str


def current_model(place: Place) -> FederatedAdapter:
    """Return the model that stands in the federation, verified against its contract."""
    location = FederationLocation.load(federation_file(place.federation))
    federation, store = connect_federation(location).now(), place.store()
    spec = Spec.parse(store.get_block(federation.terms().spec_digest))
    finished = federation.last_finalized_round()
    model = federation.current_model()
    subject = Subject(location.chain_id, location.address, RoundId(finished + 1), "model")
    with _layer_folder() as folder:
        fetch_model(store, Published(spec, subject, model.root, model.manifest), folder)
        return FederatedAdapter(spec, folder.read(spec), f"model after round {finished}")


def adapter_at(cid: str, place: Place) -> FederatedAdapter:
    """Return the update or model whose manifest has this CID, every byte verified against it."""
    digest, store = digest_of_raw_cid(cid), place.store()
    manifest = Manifest.parse(store.get_block(digest))
    spec = Spec.parse(store.get_block(parse_digest(manifest.spec)))
    about = RoundId(manifest.round)
    subject = Subject(manifest.chain_id, manifest.federation, about, manifest.kind)
    with _layer_folder() as folder:
        fetch_update(store, Published(spec, subject, manifest.root_digest, digest), folder)
        name = f"{manifest.kind} of round {manifest.round}"
        return FederatedAdapter(spec, folder.read(spec), name)


def federated_adapter(adapter: str | None, place: Place) -> FederatedAdapter:
    """Return the adapter with the CID `adapter`, or the federation's current model without one."""
    return current_model(place) if adapter is None else adapter_at(adapter, place)


@contextmanager
def _layer_folder() -> Iterator[LayerFolder]:
    with tempfile.TemporaryDirectory() as folder:
        yield LayerFolder(Path(folder))
