"""Find an adapter: a federation's current model, or the one that a manifest's CID names.

A CID proves its bytes, and the manifest names their federation and round. Only the contract proves
that the federation settled on them, as it does for the current model.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from chain.federation import connect_federation
from chain.location import FederationLocation
from commonweight.located import locate
from node.settings import ParticipantSettings
from protocol.cid import digest_of_raw_cid
from protocol.encoding import decode_values
from protocol.errors import Misconfigured
from protocol.manifest import Manifest
from protocol.spec import Spec
from protocol.types import Address, Digest, RoundId, parse_digest
from runtime.home import federation_file, newest_run
from storage.blocks import ReadableStore
from storage.ipfs import ContentStore
from storage.layers import LayerFolder, Published, Subject, fetch_model, fetch_update

# Types alone: importing training imports torch, an optional extra.
if TYPE_CHECKING:
    from training.update import IntegerLayers

DEFAULT_IPFS: Final = "http://127.0.0.1:5001"


@dataclass(frozen=True)
class Place:
    """Where the user says things are; None where nothing was given.

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
        # The participants of a run lie beside its federation file, and share one base model: the
        # spec pins it, so any of them will do.
        folder = federation_file(self.federation).parent
        settings = sorted((folder / "participants").glob("*/participant.toml"))
        if not settings:
            raise Misconfigured("give --source: where this machine finds the base model")
        return ParticipantSettings.load(settings[0]).model

    def store(self) -> ContentStore:
        """Return the content store: the one named, else the federation's, else a local daemon."""
        if self.ipfs_url is not None:
            return ContentStore(self.ipfs_url)
        # A CID needs no federation: its bytes are verified wherever they come from.
        if self.federation is None and newest_run() is None:
            return ContentStore(DEFAULT_IPFS)
        return ContentStore(locate(self.federation).ipfs_url)


@dataclass(frozen=True)
class Origin:
    """Where an adapter comes from; `round` is the newest round that is in it, 0 for none."""

    chain_id: int
    federation: Address
    round: int
    root: Digest
    manifest: Digest


@dataclass(frozen=True)
class FederatedAdapter:
    """A verified adapter as integers, with the spec that describes its layers."""

    spec: Spec
    layers: "IntegerLayers"
    name: str
    origin: Origin

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return the layers by name, each in its shape, decoded to float32."""
        return {
            layer.name: decode_values(values)
            for layer, values in zip(self.spec.layers, self.layers, strict=True)
        }


def fetch_global_model(
    location: FederationLocation, store: ContentStore | None = None
) -> FederatedAdapter:
    """Return the federation's current model, verified against its contract.

    Without `store` it is fetched from the IPFS daemon that `location` names.
    """
    federation = connect_federation(location).now()
    store = store or ContentStore(location.ipfs_url)
    spec = Spec.parse(store.get_block(federation.terms().identity.spec_digest))
    finished = federation.last_finalized_round()
    model = federation.current_model()  # of a finalized round: a proposed one may be refuted yet
    subject = Subject(location.chain_id, location.address, RoundId(finished + 1), "model")
    with tempfile.TemporaryDirectory() as name:
        folder = LayerFolder(Path(name), "model")
        fetch_model(store, Published(spec, subject, model.root, model.manifest), folder)
        origin = Origin(location.chain_id, location.address, finished, model.root, model.manifest)
        return FederatedAdapter(spec, folder.read(spec), f"model after round {finished}", origin)


def fetch_adapter(cid: str, store: ReadableStore) -> FederatedAdapter:
    """Return the model whose manifest has this CID, verifying every byte against it.

    Raises Misconfigured for an update, which is the difference from a model and none itself.
    """
    digest = digest_of_raw_cid(cid)
    manifest = Manifest.parse(store.get_block(digest))
    if manifest.kind != "model":
        raise Misconfigured(
            f"{cid} is an update of round {manifest.round}, the difference from a model: give the"
            " CID of a model's manifest"
        )
    spec = Spec.parse(store.get_block(parse_digest(manifest.spec)))
    about = RoundId(manifest.round)
    subject = Subject(manifest.chain_id, manifest.federation, about, manifest.kind)
    with tempfile.TemporaryDirectory() as name:
        folder = LayerFolder(Path(name), "model")
        fetch_update(store, Published(spec, subject, manifest.root_digest, digest), folder)
        layers = folder.read(spec)
    origin = Origin(
        manifest.chain_id, manifest.federation, manifest.round, manifest.root_digest, digest
    )
    return FederatedAdapter(spec, layers, f"{manifest.kind} of round {manifest.round}", origin)


def federated_adapter(cid: str | None, place: Place) -> FederatedAdapter:
    """Return the adapter with this CID, or the federation's current model without one."""
    if cid is not None:
        return fetch_adapter(cid, place.store())
    location = locate(place.federation)
    return fetch_global_model(location, place.store())
