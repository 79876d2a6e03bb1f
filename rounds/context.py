"""One round as a role works on it: looked up once, at one mined block, and handed on.

    context = RoundContext.at(federation.now(), store, spec, workspace, round_id)
    model = context.fetch_model()
    decisions = screen(context, model)

Nothing that takes a context asks the chain again. Files lie below the workspace of a federation:

    WORKSPACE/models/ROOT/                    global models, by root
    WORKSPACE/round-0001/updates/ADDRESS/     the updates that were revealed
    WORKSPACE/round-0001/model/               the model that was averaged from them here
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
    """A round of one federation: `told` is its history, `model` the one participants start from."""

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
        """Return a round as of the block that `now` reads. Raises as `Federation.history`."""
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
        """What was revealed, in the order of commitment."""
        return self.told.reveals

    @property
    def folder(self) -> Path:
        """Where the round's files lie."""
        return self.workspace / f"round-{self.round_id:04d}"

    @property
    def new_model(self) -> LayerFolder:
        """Where the round's average is written."""
        return LayerFolder(self.folder / "model")

    def update_folder(self, participant: Address) -> LayerFolder:
        """Where a revealed update lies once it was fetched."""
        return LayerFolder(self.folder / "updates" / participant)

    def model_folder(self, model: Model) -> LayerFolder:
        """Where a global model lies once it was fetched."""
        return LayerFolder(self.workspace / "models" / model.root.hex())

    def subject(self, kind: Kind) -> Subject:
        """What the manifest of an update or a model made in this round is about."""
        return Subject(self.chain_id, self.address, self.round_id, kind)

    def update(self, reveal: Reveal) -> Published:
        """A revealed update, as the chain names it."""
        return Published(self.spec, self.subject("update"), reveal.root, reveal.manifest)

    def model_before(self) -> Published:
        """The model from which participants start, as the chain names it."""
        return self._published(self.model, self.round_id)

    def model_after(self, proposed: Model) -> Published:
        """A model proposed for this round, as the chain names it."""
        # A manifest names the round that made it: any before the one that starts from it will do.
        return self._published(proposed, RoundId(self.round_id + 1))

    def fetch_model(self) -> LayerFolder:
        """Fetch the model from which participants start; raises as `storage.layers.fetch_model`."""
        return fetch_model(self.store, self.model_before(), self.model_folder(self.model))

    def _published(self, model: Model, before: RoundId) -> Published:
        subject = Subject(self.chain_id, self.address, before, "model")
        return Published(self.spec, subject, model.root, model.manifest)
