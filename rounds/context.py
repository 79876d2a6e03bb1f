"""One round as a role works on it: looked up once, at one mined block, and passed on.

    context = RoundContext.at(federation.now(), store, spec, workspace, round_id)
    model = obtain_model(context)          # rounds/rebuild.py
    decisions = screen(context)            # rounds/screen.py

Nothing that takes a context reads the chain again. Files are below the workspace of a federation:

    WORKSPACE/models/ROOT/                    global models, by root
    WORKSPACE/round-0001/updates/ADDRESS/     the revealed updates
    WORKSPACE/round-0001/sum/                 the sum of masked updates, computed here
    WORKSPACE/round-0001/model/               the new model, computed here
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from chain.federation import Federation
from chain.history import History, RoundHistory
from chain.records import Model, Terms
from protocol.encoding import PublishedKind
from protocol.errors import Unavailable
from protocol.reveal import Reveal
from protocol.spec import Spec
from protocol.types import Address, RoundId
from protocol.verdict import Verdict
from storage.blocks import Store
from storage.layers import LayerFolder, Published, Subject


@dataclass(frozen=True)
class RoundContext:
    """A round: `told` is its history, `model` the global model that participants start from.

    `history` is the whole federation's, from which earlier rounds are taken.
    """

    address: Address
    chain_id: int
    terms: Terms
    spec: Spec
    store: Store
    workspace: Path
    history: History
    told: RoundHistory
    model: Model

    @classmethod
    def at(
        cls,
        now: Federation,
        store: Store,
        spec: Spec,
        workspace: Path,
        round_id: RoundId,
    ) -> Self:
        """Return a round at the block that `now` reads; raises like `Federation.history`."""
        history, terms = now.history(), now.terms()
        told, model = history.round(round_id), history.model_before(round_id, terms)
        place = (now.address, now.chain_id, terms)
        return cls(*place, spec, store, workspace, history, told, model)

    @property
    def round_id(self) -> RoundId:
        """The round's number."""
        return self.told.round_id

    @property
    def reveals(self) -> Sequence[Reveal]:
        """The reveals, in the order of their commitments."""
        return self.told.reveals

    @property
    def judged(self) -> list[tuple[Verdict, Reveal]]:
        """Each verdict of the standing proposal with the reveal it is on, as the verdicts lie.

        Raises Unavailable when the node has no log of such a reveal.
        """
        revealed = {reveal.participant: reveal for reveal in self.reveals}
        verdicts = self.told.proposed.verdicts if self.told.proposed else ()
        for verdict in verdicts:
            # The contract takes verdicts on reveals only. So the log is missing, not the reveal.
            if verdict.participant not in revealed:
                raise Unavailable(
                    "the node does not have all logs: none says what"
                    f" {verdict.participant} revealed",
                    service="chain",
                )
        return [(verdict, revealed[verdict.participant]) for verdict in verdicts]

    @property
    def averaged(self) -> list[tuple[Reveal, int]]:
        """Each reveal in the average of the standing proposal with its weight; as `judged`."""
        return [(reveal, each.weight) for each, reveal in self.judged if each.is_averaged]

    def finalized_before(self) -> Iterator["RoundContext"]:
        """Yield the finalized rounds before this one, the newest first."""
        for round_id in sorted(self.history.rounds, reverse=True):
            told = self.history.rounds[round_id]
            if round_id < self.round_id and told.finalized is not None:
                yield replace(
                    self, told=told, model=self.history.model_before(round_id, self.terms)
                )

    def last_change(self) -> "RoundContext | None":
        """Return the last round before this one that changed the model; None when none did."""
        # Roots, not manifests: an average may leave every value as it was.
        return next((e for e in self.finalized_before() if e.model.root != self.model.root), None)

    @property
    def folder(self) -> Path:
        """The folder of the round's files."""
        return self.round_folder(self.round_id)

    def round_folder(self, round_id: RoundId) -> Path:
        """The folder of any round's files."""
        return self.workspace / f"round-{round_id:04d}"

    @property
    def new_model(self) -> LayerFolder:
        """The folder that the round's new model is written to."""
        # Not among the global models: it is one only once the round is finalized.
        return LayerFolder(self.folder / "model", "model")

    @property
    def sum_folder(self) -> LayerFolder:
        """The folder of the sum of the round's masked updates."""
        return LayerFolder(self.folder / "sum", "sum")

    @property
    def proposed_manifest(self) -> Path:
        """Where the manifest of the model that we proposed is kept."""
        return self.folder / "manifest.json"

    def update_folder(self, participant: Address) -> LayerFolder:
        """The folder of a revealed update that was fetched."""
        return LayerFolder(self.folder / "updates" / participant, self.spec.update_kind)

    def model_folder(self, model: Model) -> LayerFolder:
        """The folder of a global model that was fetched."""
        # By root, so that a round that accepts no update does not fetch its model again.
        return LayerFolder(self.workspace / "models" / model.root.hex(), "model")

    def subject(self, kind: PublishedKind) -> Subject:
        """The subject that a manifest made in this round must have."""
        return Subject(self.chain_id, self.address, self.round_id, kind)

    def update(self, reveal: Reveal) -> Published:
        """A revealed update, as the chain names it."""
        subject = self.subject(self.spec.update_kind)
        return Published(self.spec, subject, reveal.root, reveal.manifest)

    def model_before(self) -> Published:
        """The model from which participants start, as the chain names it."""
        return self._published(self.model, self.round_id)

    def model_after(self, proposed: Model) -> Published:
        """A model proposed for this round, as the chain names it."""
        # A manifest names the round that made the model. That may be an earlier one: a round that
        # accepts no update proposes the old model, with its old manifest.
        return self._published(proposed, RoundId(self.round_id + 1))

    def _published(self, model: Model, before: RoundId) -> Published:
        subject = Subject(self.chain_id, self.address, before, "model")
        return Published(self.spec, subject, model.root, model.manifest)
