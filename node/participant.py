"""A participant's part in a round: train, commit, reveal, withdraw.

The caller (a Flower ClientApp, a test) only triggers a step. Whether it is due is read from the
chain, so each call may be repeated after a crash:

    commit    train once, write the update and its salt to disk, then send the commitment
    reveal    pin the layer files and the manifest, then open the commitment
    withdraw  take what the contract owes

The salt is on disk before the commitment is sent. After a restart, a participant therefore never
trains a second update for a round, never commits twice and can always reveal.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from chain.federation import Federation
from contracts.enums import SubmissionState
from contracts.reverts import Reverted
from profiling.recorder import Recorder
from protocol.commitment import compute_commitment
from protocol.errors import CommonweightError
from protocol.spec import Spec
from protocol.types import RoundId, TokenUnits, parse_digest
from rounds.context import RoundContext
from rounds.rebuild import obtain_model
from runtime import events
from runtime.events import Report, ignore
from storage.digests import examine
from storage.files import locked, read_json, write_json
from storage.ipfs import ContentStore
from storage.layers import LayerFolder, Subject, build_manifest, pin


@dataclass(frozen=True)
class TrainedUpdate:
    """The number of examples trained on, and the mean training loss in nats per token."""

    examples: int
    loss: float


class Trainer(Protocol):
    """Trains one round on this participant's data."""

    def train(
        self, spec: Spec, model: LayerFolder, round_id: RoundId, update: LayerFolder
    ) -> TrainedUpdate:
        """Train from `model` and write the encoded result to `update`."""


@dataclass(frozen=True)
class Prepared:
    """What is on disk about a round's update, with the secret salt that opens its commitment."""

    root: str
    manifest: str
    examples: int
    salt: str
    loss: float


class Participant:
    """One wallet, one data set, one federation."""

    def __init__(
        self,
        federation: Federation,
        store: ContentStore,
        trainer: Trainer,
        state: Path,
        report: Report = ignore,
    ) -> None:
        self.federation = federation
        self.address = federation.sender.address
        self.store = store
        self.trainer = trainer
        self.state = state
        self.report = report
        self.spec = Spec.parse(store.get_block(federation.terms().spec_digest))
        self.recorder = Recorder(state, "participant", self.address, self.spec)

    def commit(self, round_id: RoundId) -> Prepared | None:
        """Commit to an update of the round; None when the round does not ask this participant."""
        # Flower may run the next message in another process. Two that train for one round would
        # write two salts, and the commitment could be to the one that was overwritten.
        with locked(self.state):
            if self._submission_state(round_id) is not SubmissionState.NONE:
                return self._load(round_id)
            standing = self.federation.get_participant(self.address)
            is_member = standing.active and standing.joined_after_round < round_id
            if not is_member or not self.federation.is_eligible(round_id, self.address):
                return None
            # What was trained before a crash is used. A second update would have another salt, and
            # only one of the two could open a commitment that is already in the pool.
            prepared = self._load(round_id) or self._prepare(round_id)
            with self._unless(round_id, SubmissionState.COMMITTED):
                with self.recorder.phase("commit", round_id):
                    commitment = compute_commitment(
                        self.federation.address,
                        round_id,
                        self.address,
                        parse_digest(prepared.root),
                        parse_digest(prepared.manifest),
                        prepared.examples,
                        bytes.fromhex(prepared.salt),
                    )
                    receipt = self.federation.commit(round_id, commitment)
                self.report(events.Committed(round=round_id, gas=receipt.gas_used))
            return prepared

    def reveal(self, round_id: RoundId) -> Prepared | None:
        """Pin the round's update and reveal it; return it, or None when there is none on disk.

        Raises CommonweightError when the committed update is missing or its files have changed.
        """
        with locked(self.state):
            prepared = self._load(round_id)
            if self._submission_state(round_id) is not SubmissionState.COMMITTED:
                return prepared
            if prepared is None:
                raise CommonweightError(
                    f"round {round_id}: a commitment of {self.address} is on chain "
                    f"but {self._round_folder(round_id)} has no update: the stake's penalty is lost"
                )
            # 1. The manifest follows from the files: it is computed again, not kept beside them.
            root, manifest_digest = parse_digest(prepared.root), parse_digest(prepared.manifest)
            folder = LayerFolder(self._round_folder(round_id) / "update")
            with self.recorder.phase("hash", round_id) as span:
                span.add(read=self.spec.total_bytes)
                manifest = build_manifest(folder, self.spec, self._subject(round_id), root)
            # 2. Pin before the reveal. An update whose bytes are not there is rejected (check 1),
            # and no aggregator waits for them once the chain shows the reveal.
            with self.recorder.phase("pin", round_id):
                pinned = pin(self.store, folder, manifest)
            if pinned != manifest_digest:
                raise CommonweightError(
                    f"round {round_id}: {folder.path} changed after the commitment"
                )
            self.report(events.Pinned(round=round_id, bytes=self.spec.total_bytes))
            # 3. Open the commitment.
            with self._unless(round_id, SubmissionState.REVEALED):
                with self.recorder.phase("reveal", round_id):
                    receipt = self.federation.reveal(
                        round_id,
                        root=root,
                        manifest=manifest_digest,
                        examples=prepared.examples,
                        salt=bytes.fromhex(prepared.salt),
                    )
                self.report(events.Revealed(round=round_id, gas=receipt.gas_used))
            return prepared

    def withdraw(self) -> TokenUnits:
        """Withdraw the credit and return it; 0 when there is none."""
        amount = self.federation.credit_of(self.address)
        if amount:
            receipt = self.federation.withdraw()
            self.report(events.Withdrew(amount=amount, gas=receipt.gas_used))
        return amount

    def context(self, round_id: RoundId, now: Federation | None = None) -> RoundContext:
        """Return a round as of the block of `now` (see `Federation.now`), or the newest block."""
        workspace = self.state / self.federation.address
        return RoundContext.at(
            now or self.federation.now(), self.store, self.spec, workspace, round_id
        )

    def fetch_model(self, context: RoundContext) -> LayerFolder:
        """Return the model that a round starts from, verified: fetched, or else rebuilt."""
        with self.recorder.phase("fetch model", context.round_id):
            return obtain_model(context)

    def _prepare(self, round_id: RoundId) -> Prepared:
        self.report(events.FetchingModel(round=round_id))
        model = self.fetch_model(self.context(round_id))
        folder = LayerFolder(self._round_folder(round_id) / "update")
        with self.recorder.phase("train", round_id):
            trained = self.trainer.train(self.spec, model, round_id, folder)
        with self.recorder.phase("hash", round_id) as span:
            span.add(read=self.spec.total_bytes)
            # Root and file digests in one read of the files.
            (found,) = examine(self.spec, [folder.paths(self.spec)])
            subject = self._subject(round_id)
            manifest = build_manifest(folder, self.spec, subject, found.root, found.digests)
        prepared = Prepared(
            root=found.root.hex(),
            manifest=manifest.digest().hex(),
            examples=trained.examples,
            salt=secrets.token_hex(32),
            loss=trained.loss,
        )
        # Durable before the commitment is sent: a lost salt would cost the stake's penalty. Nobody
        # else may read it either, since examples and salt are secret until the reveal.
        write_json(self._round_folder(round_id) / "prepared.json", asdict(prepared), mode=0o600)
        self.report(events.Trained(round=round_id, loss=trained.loss, examples=trained.examples))
        return prepared

    def _load(self, round_id: RoundId) -> Prepared | None:
        path = self._round_folder(round_id) / "prepared.json"
        if not path.exists():
            return None
        fields: dict[str, Any] = read_json(path)
        return Prepared(**fields)

    def _submission_state(self, round_id: RoundId) -> SubmissionState:
        return self.federation.get_submission(round_id, self.address).state

    @contextmanager
    def _unless(self, round_id: RoundId, wanted: SubmissionState) -> Iterator[None]:
        """Ignore a refusal if the submission is in the `wanted` state already.

        A transaction sent just before a crash may be mined just after the state was read.
        """
        try:
            yield
        except Reverted:
            if self._submission_state(round_id) is not wanted:
                raise

    def _round_folder(self, round_id: RoundId) -> Path:
        return self.state / self.federation.address / f"round-{round_id:04d}"

    def _subject(self, round_id: RoundId) -> Subject:
        return Subject(self.federation.chain_id, self.federation.address, round_id, "update")
