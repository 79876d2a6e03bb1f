"""One round as a role works on it: looked up once, at one mined block, and passed on.

    context = RoundContext.at(federation.now(), store, spec, workspace, round_id)
    model = context.fetch_model()
    decisions = screen(context, model)

Nothing that takes a context reads the chain again. Files are below the workspace of a federation:

    WORKSPACE/models/ROOT/                    global models, by root
    WORKSPACE/round-0001/updates/ADDRESS/     the revealed updates
    WORKSPACE/round-0001/model/               their average, computed here
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from chain.federation import Federation
from chain.history import RoundHistory
from chain.records import Model, Terms
from protocol.manifest import Kind
from protocol.reveal import Reveal
from protocol.spec import Spec
from protocol.types import Address, RoundId
from storage.ipfs import ContentStore
from storage.layers import LayerFolder, Published, Subject, fetch_model


@dataclass(frozen=True)
class RoundContext:
    """A round: `told` is its history, `model` the global model that participants start from."""

    address: Address
    chain_id: int
    terms: Terms
    spec: Spec
    store: ContentStore
    workspace: Path
    told: RoundHistory
    model: Model

    @classmethod
    def at(
        cls,
        now: Federation,
        store: ContentStore,
        spec: Spec,
        workspace: Path,
        round_id: RoundId,
    ) -> Self:
        """Return a round at the block that `now` reads; raises like `Federation.history`."""
        history = now.history()
        model = history.model_before(round_id, now.terms())
        place = (now.address, now.chain_id, now.terms())
        return cls(*place, spec, store, workspace, history.round(round_id), model)

    @property
    def round_id(self) -> RoundId:
        """The round's number."""
        return self.told.round_id

    @property
    def reveals(self) -> Sequence[Reveal]:
        """The reveals, in the order of their commitments."""
        return self.told.reveals

    @property
    def folder(self) -> Path:
        """The folder of the round's files."""
        return self.workspace / f"round-{self.round_id:04d}"

    @property
    def new_model(self) -> LayerFolder:
        """The folder that the round's average is written to."""
        # Not among the global models: it is one only once the round is finalized.
        return LayerFolder(self.folder / "model")

    def update_folder(self, participant: Address) -> LayerFolder:
        """The folder of a revealed update that was fetched."""
        return LayerFolder(self.folder / "updates" / participant)

    def model_folder(self, model: Model) -> LayerFolder:
        """The folder of a global model that was fetched."""
        # By root, so that a round that accepts no update does not fetch its model again.
        return LayerFolder(self.workspace / "models" / model.root.hex())

    def subject(self, kind: Kind) -> Subject:
        """The subject that a manifest made in this round must have."""
        return Subject(self.chain_id, self.address, self.round_id, kind)

    def update(self, reveal: Reveal) -> Published:
        """A revealed update, as the chain names it."""
        return Published(self.spec, self.subject("update"), reveal.root, reveal.manifest)

    def model_before(self) -> Published:
        """The model from which participants start, as the chain names it."""
        return self._published(self.model, self.round_id)

    def model_after(self, proposed: Model) -> Published:
        """A model proposed for this round, as the chain names it."""
        # A manifest names the round that made the model. That may be an earlier one: a round that
        # accepts no update proposes the old model, with its old manifest.
        return self._published(proposed, RoundId(self.round_id + 1))

    def fetch_model(self) -> LayerFolder:
        """Fetch the model that participants start from; raises like `storage.layers`' function."""
        return fetch_model(self.store, self.model_before(), self.model_folder(self.model))

    def _published(self, model: Model, before: RoundId) -> Published:
        subject = Subject(self.chain_id, self.address, before, "model")
        return Published(self.spec, subject, model.root, model.manifest)
