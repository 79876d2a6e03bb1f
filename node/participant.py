"""A participant's part in a round: train, commit, reveal, withdraw.

The caller (a Flower ClientApp, a test) only triggers a step. Whether it is due is read from the
chain, so each call may be repeated after a crash:

    commit    train once, write the update, what it carries and its salt to disk, show that the
              store takes as much, then send the commitment
    reveal    pin the layer files and the manifest, then open the commitment
    withdraw  take what the contract owes

The salt is on disk before the commitment is sent. After a restart, a participant therefore never
trains a second update for a round, never commits twice and can always reveal.
"""

import secrets
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol

from chain.federation import Federation
from contracts.enums import SubmissionState
from contracts.reverts import Reverted
from ethereum.transactions import Receipt
from node.carried import CarriedFiles
from node.results import last_used_round
from profiling.recorder import Recorder
from protocol.commitment import PREFIX_BYTES, compute_commitment, compute_update_digest
from protocol.errors import CommonweightError, Misconfigured, Unavailable
from protocol.manifest import Manifest
from protocol.spec import Spec
from protocol.types import Address, Digest, RoundId, TokenUnits, parse_digest
from rounds.context import RoundContext
from rounds.prune import prune, rounds_on_disk, stale_rounds
from rounds.rebuild import obtain_model
from rounds.terms import require_agreement
from rounds.whereabouts import learn_places, meet_peers
from runtime import events
from runtime.events import Report, ignore
from runtime.service import one_line, ran_out_of_memory
from storage.blocks import ReadableStore, Store
from storage.digests import examine
from storage.files import locked, read_json, write_json
from storage.layers import LayerFolder, Subject, build_manifest, pin, remove_unused
from storage.proof import prove_store
from training.update import Carried

_TRIES: Final = 3  # to train for a round, where another try may help


@dataclass(frozen=True)
class TrainedUpdate:
    """The number of examples trained on, and the mean training loss in nats per token.

    `carried` is what rounding took, one float64 array per layer in the model's units; None for
    nothing.
    """

    examples: int
    loss: float
    carried: Carried | None = None


class Trainer(Protocol):
    """Trains one round on this participant's data."""

    def train(
        self,
        spec: Spec,
        model: LayerFolder,
        round_id: RoundId,
        update: LayerFolder,
        carried: Carried | None,
    ) -> TrainedUpdate:
        """Train from `model` and write the difference to `update`, in steps of the round's grid.

        `carried` is that of the newest update that a round used; it is part of the difference.
        """


class TrainingFailed(Unavailable):
    """Training raised something; `may_pass` when another try may succeed."""

    service = "training"

    def __init__(self, text: str, *, may_pass: bool) -> None:
        super().__init__(text)
        self.may_pass = may_pass


@contextmanager
def training_failures() -> Iterator[None]:
    """Turn whatever training or evaluation raises into TrainingFailed, but for errors of ours."""
    try:
        yield
    except (CommonweightError, OSError):
        raise
    except Exception as error:
        # The frames that the error came through hold the tensors, and so the next try's memory.
        traceback.clear_frames(error.__traceback__)
        if ran_out_of_memory(error):
            advice = "free some, or set `rank` in the settings to train fewer ranks"
            text = f"memory ran out ({one_line(error)}): {advice}"
            raise TrainingFailed(text, may_pass=True) from error
        text = f"training failed with {type(error).__name__}: {one_line(error)}"
        raise TrainingFailed(text, may_pass=False) from error


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
        store: Store,
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
        self.withdraw_to: Address | None = None  # the wallet itself
        self._failures: Counter[RoundId] = Counter()
        self._elsewhere: set[RoundId] = set()
        self.public: ReadableStore | None = None  # where others read the store; itself
        self.owns_store = False  # or it may be others' too, and nothing is removed from it
        terms = federation.terms()
        learn_places(store, federation)
        self.spec = Spec.parse(store.get_block(terms.identity.spec_digest))
        require_agreement(terms, self.spec)  # or the work would be averaged as something else
        self.carried = CarriedFiles(state / federation.address / "carried", self.spec)
        self.recorder = Recorder(state, "participant", self.address, self.spec)

    def commit(self, round_id: RoundId) -> Prepared | None:
        """Commit to an update of the round; None when the round does not ask this participant.

        Raises Unavailable when the store does not take an upload of the update's size.
        """
        # Flower may run the next message in another process. Two that train for one round would
        # write two salts, and the commitment could be to the one that was overwritten.
        with locked(self.state):
            if self._submission_state(round_id) is not SubmissionState.NONE:
                return self._own(round_id)
            if not self._is_asked(round_id):
                return None
            # What was trained before a crash is used. A second update would have another salt, and
            # only one of the two could open a commitment that is already in the pool.
            prepared = self._load(round_id) or self._prepare_if_possible(round_id)
            if prepared is None:
                return None
            # Nothing of the update is stored before it is revealed, and by then it is too late to
            # find that the store does not take it: not revealing costs the penalty.
            with self.recorder.phase("prove store", round_id):
                prove_store(self.store, self.spec.total_bytes("update"), self.public)
            with self._unless(round_id, SubmissionState.COMMITTED), self._unless_full(round_id):
                with self.recorder.phase("commit", round_id):
                    commitment = self._commitment(round_id, prepared)
                    receipt = self.federation.commit(round_id, commitment)
                self.report(events.Committed(round=round_id, gas=receipt.gas_used))
                return prepared
            return self._own(round_id) if self._has_committed(round_id) else None

    def reveal(self, round_id: RoundId) -> Prepared | None:
        """Pin the round's update and reveal it; return it, or None when there is none on disk.

        Raises CommonweightError when the committed update is missing or its files have changed.
        """
        with locked(self.state):
            prepared = self._own(round_id)
            if self._submission_state(round_id) is not SubmissionState.COMMITTED:
                return prepared
            if prepared is None:
                raise CommonweightError(
                    f"round {round_id}: a commitment of {self.address} is on chain "
                    f"but {self._round_folder(round_id)} has no update for it: the stake's penalty"
                    " is lost unless whoever made it, with this wallet elsewhere, reveals it"
                )
            # 1. The manifest follows from the files: it is computed again, not kept beside them.
            root, manifest_digest = parse_digest(prepared.root), parse_digest(prepared.manifest)
            folder = self._update_folder(round_id)
            with self.recorder.phase("hash", round_id) as span:
                span.add(read=self.spec.total_bytes("update"))
                manifest = build_manifest(folder, self.spec, self._subject(round_id), root)
            # 2. Pin before the reveal. An update whose bytes are not there is rejected (check 1),
            # and no aggregator waits for them once the chain shows the reveal.
            meet_peers(self.store)
            with self.recorder.phase("pin", round_id):
                pinned = pin(self.store, folder, manifest)
            if pinned != manifest_digest:
                raise CommonweightError(
                    f"round {round_id}: {folder.path} changed after the commitment"
                )
            self.report(events.Pinned(round=round_id, bytes=self.spec.total_bytes("update")))
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
            receipt = self.withdraw_all()
            self.report(events.Withdrew(amount=amount, gas=receipt.gas_used))
        return amount

    def withdraw_all(self) -> Receipt:
        """Withdraw the credit and a stake that is free, to `withdraw_to` where that is set."""
        if self.withdraw_to is None:
            return self.federation.withdraw()
        return self.federation.withdraw_to(self.withdraw_to)

    def context(self, round_id: RoundId, now: Federation | None = None) -> RoundContext:
        """Return a round as of the block of `now` (see `Federation.now`), or the newest block."""
        workspace, now = self.state / self.federation.address, now or self.federation.now()
        learn_places(self.store, now)
        return RoundContext.at(now, self.store, self.spec, workspace, round_id)

    def fetch_model(self, context: RoundContext) -> LayerFolder:
        """Return the model that a round starts from, verified: fetched, or else rebuilt."""
        with self.recorder.phase("fetch model", context.round_id):
            return obtain_model(context)

    def _prepare_if_possible(self, round_id: RoundId) -> Prepared | None:
        """Return the round's update, trained now; None once it is clear that training fails.

        Without a commitment nothing is lost but the round.
        """
        if self._failures[round_id] >= _TRIES:
            return None
        try:
            return self._prepare(round_id)
        except TrainingFailed as error:
            # Memory may be free again after a pause; the same rows fail the same way.
            self._failures[round_id] += 1 if error.may_pass else _TRIES
            if self._failures[round_id] < _TRIES:
                raise
            self.report(events.TrainingGivenUp(round=round_id, reason=str(error)))
            return None

    def _prepare(self, round_id: RoundId) -> Prepared:
        self.report(events.FetchingModel(round=round_id))
        now = self.federation.now()
        context = self.context(round_id, now)
        # Nothing of rounds long over can be demanded any more; before the model takes its room.
        self._drop_old(context)
        model = self.fetch_model(context)
        source = last_used_round(now.history(), self.address, round_id)
        folder = self._update_folder(round_id)
        with self.recorder.phase("train", round_id):
            carried = self._read_carried(round_id, source)
            with training_failures():
                trained = self.trainer.train(self.spec, model, round_id, folder, carried)
        with self.recorder.phase("hash", round_id) as span:
            span.add(read=self.spec.total_bytes("update"))
            # Root and file digests in one read of the files.
            (found,) = examine(self.spec, "update", [folder.paths(self.spec)])
            subject = self._subject(round_id)
            manifest = build_manifest(folder, self.spec, subject, found.root, found.digests)
        prepared = Prepared(
            root=found.root.hex(),
            manifest=manifest.digest().hex(),
            examples=trained.examples,
            salt=secrets.token_hex(32),
            loss=trained.loss,
        )
        # Before prepared.json, which says that the update is whole: without it the round is trained
        # again, from the same `source` and to the same root.
        self.carried.write(round_id, trained.carried)
        # Durable before the commitment is sent: a lost salt would cost the stake's penalty. Nobody
        # else may read it either, since examples and salt are secret until the reveal.
        write_json(self._round_folder(round_id) / "prepared.json", asdict(prepared), mode=0o600)
        # A later round starts from this one, or from `source` if this one's update is not used.
        self.carried.prune(round_id, source)
        self.report(events.Trained(round=round_id, loss=trained.loss, examples=trained.examples))
        return prepared

    def _drop_old(self, context: RoundContext) -> None:
        """Remove the updates of rounds that no other needs, from the own store and from disk.

        What an update that stays lists too (a layer that was not trained is zero) stays as well.
        """
        stale = stale_rounds(context)
        if self.owns_store and stale:
            kept = [number for number in rounds_on_disk(context) if number not in stale]
            try:
                remove_unused(
                    self.store, self._manifests_of(stale), self._manifests_of(kept), self.spec
                )
            except Unavailable as error:
                # The files stay too, since they say what there is to remove, until it works.
                self.report(events.NotRemoved(round=context.round_id, reason=str(error)))
                return
        prune(context)

    def _manifests_of(self, rounds: Iterable[RoundId]) -> Iterator[Manifest]:
        """Yield the manifest of each round's update whose files are whole."""
        for number in rounds:
            folder = self._update_folder(number)
            with suppress(Misconfigured, OSError):
                if (prepared := self._load(number)) is not None:
                    root = parse_digest(prepared.root)
                    yield build_manifest(folder, self.spec, self._subject(number), root)

    def _read_carried(self, round_id: RoundId, source: RoundId | None) -> Carried | None:
        """Return what the update of round `source` left over; None, with a line, when lost."""
        if source is None:
            return None
        try:
            return self.carried.read(source)
        except Misconfigured as error:
            lost = events.CarriedLost(round=round_id, of_round=source, reason=str(error))
            self.report(lost)
            return None

    def _own(self, round_id: RoundId) -> Prepared | None:
        """Return the update that the wallet has committed to; None, with a line, if not from here.

        The wallet may be in use on another machine, or with another copy of the state folder.
        """
        prepared = self._load(round_id)
        submission = self.federation.get_submission(round_id, self.address)
        match submission.state:
            case SubmissionState.COMMITTED if prepared is not None:
                is_own = submission.digest == self._commitment(round_id, prepared)[:PREFIX_BYTES]
            case SubmissionState.REVEALED if prepared is not None:
                is_own = submission.digest == _update_digest(prepared)[:PREFIX_BYTES]
            case SubmissionState.COMMITTED | SubmissionState.REVEALED:
                is_own = False
            case _:
                return prepared
        if is_own:
            return prepared
        if round_id not in self._elsewhere:
            self._elsewhere.add(round_id)
            folder = self._round_folder(round_id)
            reason = (
                f"{self.address} has committed to another update than {folder} has: is the wallet"
                " in use on another machine, or with a copy of this folder?"
            )
            self.report(events.WalletElsewhere(round=round_id, reason=reason))
        return None

    def _commitment(self, round_id: RoundId, prepared: Prepared) -> Digest:
        return compute_commitment(
            self.federation.address,
            round_id,
            self.address,
            parse_digest(prepared.root),
            parse_digest(prepared.manifest),
            prepared.examples,
            bytes.fromhex(prepared.salt),
        )

    def _load(self, round_id: RoundId) -> Prepared | None:
        path = self._round_folder(round_id) / "prepared.json"
        if not path.exists():
            return None
        fields = read_json(path)
        if not isinstance(fields, dict) or fields.keys() != Prepared.__annotations__.keys():
            raise Misconfigured(f"{path} is not what was written there")
        return Prepared(**fields)

    def _is_asked(self, round_id: RoundId) -> bool:
        """Whether the round asks this participant and still has room for its commitment."""
        now = self.federation.now()
        facts, standing = now.get_round(round_id), now.get_participant(self.address)
        if not standing.active or standing.joined_block >= facts.opened_block:
            return False
        # Before the training, which would be in vain.
        if facts.committed >= now.terms().seats.round_seats:
            self.report(events.RoundFull(round=round_id))
            return False
        return facts.is_seeded and now.is_eligible(round_id, self.address)

    def _has_committed(self, round_id: RoundId) -> bool:
        return self._submission_state(round_id) is not SubmissionState.NONE

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

    @contextmanager
    def _unless_full(self, round_id: RoundId) -> Iterator[None]:
        """Report that others have taken the round's seats meanwhile, which is no failure."""
        try:
            yield
        except Reverted as error:
            if error.name != "RoundFull":
                raise
            self.report(events.RoundFull(round=round_id))

    def _round_folder(self, round_id: RoundId) -> Path:
        return self.state / self.federation.address / f"round-{round_id:04d}"

    def _update_folder(self, round_id: RoundId) -> LayerFolder:
        return LayerFolder(self._round_folder(round_id) / "update", "update")

    def _subject(self, round_id: RoundId) -> Subject:
        return Subject(self.federation.chain_id, self.federation.address, round_id, "update")


def _update_digest(prepared: Prepared) -> Digest:
    root, manifest = parse_digest(prepared.root), parse_digest(prepared.manifest)
    return compute_update_digest(root, manifest, prepared.examples)
