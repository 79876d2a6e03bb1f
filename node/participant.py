"""A participant's part in a round: train, commit, reveal, withdraw.

The caller (a Flower ClientApp, a test) only triggers a step. Whether it is due is read from the
chain, so each call may be repeated after a crash:

    commit    train once, write the update, what it carries and its salt to disk, show that the
              store takes as much, then send the commitment
    reveal    pin the layer files and the manifest, then open the commitment
    withdraw  take what the contract owes

and where only the sum of the updates is to be read (docs/protocol.md §13; node/masks.py):

    reveal    first mask the update for all that committed
    unmask    post the secrets that the sum needs, if the owner's rules allow it
    assist    give shares of what a silent member of the set did not post
    object    say so when the sum does not fit the sketches; where most have, account for the own
              masks before the next commitment (node/accounts.py)

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
from chain.phases import depth_of_finality, draw_sketches, has_ended
from chain.records import Opening
from contracts.enums import Status, SubmissionState
from contracts.reverts import Reverted
from ethereum.transactions import Receipt
from node.accounts import is_posted, make_account, must_account, still_accountable
from node.carried import CarriedFiles
from node.masks import NOT_FINAL, Masks, Trust
from node.privacy import BudgetSpent, PrivacyBudget
from node.results import last_used_round
from profiling.recorder import Recorder
from protocol.commitment import (
    PREFIX_BYTES,
    compute_commitment,
    compute_masked_commitment,
)
from protocol.encoding import PublishedKind
from protocol.errors import CommonweightError, Misconfigured, Rejected, Unavailable
from protocol.manifest import Manifest
from protocol.reveal import Reveal
from protocol.spec import Spec
from protocol.types import Address, Digest, RoundId, TokenUnits, parse_digest
from rounds.budget import Budget
from rounds.bundles import fetch_bundle
from rounds.context import RoundContext
from rounds.prune import prune, rounds_on_disk, stale_rounds
from rounds.rebuild import Fetcher, obtain_model, obtain_sum
from rounds.sketched import judge_sum
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

_OPENED: Final = (SubmissionState.UNMASKED, SubmissionState.OBJECTED)
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
        budget: PrivacyBudget | None = None,
    ) -> None:
        self.federation = federation
        self.address = federation.sender.address
        self.budget = budget
        self.store = store
        self.trainer = trainer
        self.state = state
        self.report = report
        self.withdraw_to: Address | None = None  # the wallet itself
        self._failures: Counter[RoundId] = Counter()
        self._elsewhere: set[RoundId] = set()
        self.trust = Trust()  # whom the masked update is summed with
        self._said: set[str] = set()
        self._accounted: dict[RoundId, int] = {}  # how many accounts of a round were compared
        self._checked: set[Digest] = set()  # proposals whose sum was held against the sketches
        self.public: ReadableStore | None = None  # where others read the store; itself
        self.owns_store = False  # or it may be others' too, and nothing is removed from it
        terms = federation.terms()
        learn_places(store, federation)
        self.spec = Spec.parse(store.get_block(terms.identity.spec_digest))
        require_agreement(terms, self.spec)  # or the work would be averaged as something else
        # What rounding took from a noised update is noised itself, and says no more of a record.
        # What it took from another is not: the two are apart, so that none reaches the other.
        carried = "carried" if budget is None else "carried-private"
        self.carried = CarriedFiles(state / federation.address / carried, self.spec)
        self.recorder = Recorder(state, "participant", self.address, self.spec)

    def commit(self, round_id: RoundId) -> Prepared | None:
        """Commit to an update of the round; None when the round does not ask this participant.

        Raises Unavailable when the store does not take an upload of the update's size.
        """
        # Flower may run the next message in another process. Two that train for one round would
        # write two salts, and the commitment could be to the one that was overwritten.
        with locked(self.state):
            self._account_for_masks()
            if self._submission_state(round_id) is not SubmissionState.NONE:
                return self._own(round_id)
            if not self._is_asked(round_id):
                return None
            # What was trained before a crash is used. A second update would have another salt, and
            # only one of the two could open a commitment that is already in the pool.
            # Unless it is from before records were protected.
            prepared = self._load(round_id)
            if prepared is not None and self.budget and not self.budget.covers(round_id):
                self.report(events.TrainedBare(round=round_id))
                prepared = None
            prepared = prepared or self._prepare_if_possible(round_id)
            if prepared is None:
                return None
            # Nothing of the update is stored before it is revealed, and by then it is too late to
            # find that the store does not take it: not revealing costs the penalty.
            with self.recorder.phase("prove store", round_id):
                size = self.spec.total_bytes(self.spec.update_kind)
                prove_store(self.store, size, self.public)
            with self._unless(round_id, SubmissionState.COMMITTED), self._unless_full(round_id):
                with self.recorder.phase("commit", round_id):
                    receipt = self._send_commitment(round_id, prepared)
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
            self._account_for_masks()  # again: others may have, and differ from us
            if prepared is None:
                raise CommonweightError(
                    f"round {round_id}: a commitment of {self.address} is on chain "
                    f"but {self._round_folder(round_id)} has no update for it: the stake's penalty"
                    " is lost unless whoever made it, with this wallet elsewhere, reveals it"
                )
            folder, shown = self._update_folder(round_id), _reveal_of(self.address, prepared)
            if self.spec.privacy == "masked":
                masked = self._mask(round_id, prepared)
                if masked is None:
                    return prepared
                folder, shown = masked
            # 1. The manifest follows from the files: it is computed again, not kept beside them.
            size = self.spec.total_bytes(folder.kind)
            with self.recorder.phase("hash", round_id) as span:
                span.add(read=size)
                subject = self._subject(round_id, self.spec.update_kind)
                manifest = build_manifest(folder, self.spec, subject, shown.root)
            # 2. Pin before the reveal. An update whose bytes are not there is rejected (check 1),
            # and no aggregator waits for them once the chain shows the reveal.
            meet_peers(self.store)
            with self.recorder.phase("pin", round_id):
                pinned = pin(self.store, folder, manifest)
            if pinned != shown.manifest:
                raise CommonweightError(
                    f"round {round_id}: {folder.path} changed after the commitment"
                )
            self.report(events.Pinned(round=round_id, bytes=size))
            # 3. Open the commitment.
            with self._unless(round_id, SubmissionState.REVEALED):
                with self.recorder.phase("reveal", round_id):
                    receipt = self._send_reveal(shown, round_id, bytes.fromhex(prepared.salt))
                self.report(events.Revealed(round=round_id, gas=receipt.gas_used))
            return prepared

    def unmask(self, round_id: RoundId) -> bool:
        """Post the secrets that the sum needs of us; return whether they are on the chain.

        The rules of `Masks.refusal` come first, and what they refuse is reported.
        """
        with locked(self.state):
            now = self.federation.now()
            state = now.get_submission(round_id, self.address).state
            if state is not SubmissionState.REVEALED:
                return state in _OPENED
            context, prepared = self.context(round_id, now), self._load(round_id)
            if context.told.masking.sealed is None or prepared is None:
                return False
            if context.told.masking.drawn is None:
                receipt = draw_sketches(self.federation, round_id)
                if receipt is not None:
                    self.report(events.SketchesDrawn(round=round_id, gas=receipt.gas_used))
                return False  # until that is final as well
            masks = self._masks(round_id)
            refusal = masks.refusal(context, now.finalized_block(), self.trust)
            if refusal:
                event = events.KeepsSecrets(round=round_id, reason=refusal)
                self._report_once(f"{round_id} {refusal}", event)
                if refusal in NOT_FINAL:
                    self.federation.ask_for_block()
                return False
            with self.recorder.phase("sketch", round_id):
                folder = self._update_folder(round_id)
                sketch = masks.sketch(context, folder, prepared.examples)
                # Before its digest is on the chain. It is short, and all that a seat posts of its
                # own update beside the sum.
                (digest,) = self.store.put_blocks([sketch])
            with self._unless(round_id, SubmissionState.UNMASKED):
                with self.recorder.phase("unmask", round_id):
                    opened = masks.open(context, prepared.examples)
                    receipt = self.federation.unmask(round_id, opened, digest)
                self.report(events.SecretsPosted(round=round_id, gas=receipt.gas_used))
            return True

    def assist(self, round_id: RoundId) -> None:
        """Give our shares of the secrets of every silent member of the set, once each."""
        with locked(self.state):
            now = self.federation.now()
            if now.get_submission(round_id, self.address).state not in _OPENED:
                return
            context, masks = self.context(round_id, now), self._masks(round_id)
            # By the same rules: shares open masks as well.
            if masks.refusal(context, now.finalized_block(), self.trust):
                return
            masking = context.told.masking
            given = {event.silent for event in masking.assisted if event.helper == self.address}
            for reveal in context.told.summed:
                silent = reveal.participant
                if silent not in masking.silent or silent in given:
                    continue
                try:
                    bundle = fetch_bundle(context, reveal)
                    shares = masks.shares_of(context, silent, bundle)
                except (Rejected, Unavailable) as error:
                    reason = f"no shares of {silent}: {error}"
                    event = events.KeepsSecrets(round=round_id, reason=reason)
                    self._report_once(f"{round_id} {silent}", event)
                    continue
                receipt = self.federation.assist(round_id, silent, shares)
                self.report(events.SharesGiven(round=round_id, silent=silent, gas=receipt.gas_used))

    def object(self, round_id: RoundId) -> None:
        """Hold the proposed round's sum against the sketches, once; object when it does not fit.

        What cannot be looked at while objecting is possible is reported, and not looked at.
        """
        with locked(self.state):
            now = self.federation.now()
            told = now.history().round(round_id)
            if told.proposed is None or told.proposed.root in self._checked:
                return
            if now.get_submission(round_id, self.address).state is not SubmissionState.UNMASKED:
                return
            context = self.context(round_id, now)
            # No longer than objecting is possible: what others do not serve delays no next round.
            left = max(told.proposed.challenge_deadline - now.next_time(), 0)
            fetcher = Fetcher(Budget.of(self.spec, left))
            try:
                with self.recorder.phase("check sum", round_id):
                    judged = judge_sum(context, obtain_sum(context, fetcher), fetcher)
            except Unavailable as error:
                event = events.SumUnchecked(round=round_id, reason=str(error))
                self._report_once(f"unchecked {told.proposed.root.hex()}", event)
                return
            self._checked.add(told.proposed.root)
            if judged.objection:
                try:
                    self.federation.object_to(round_id)
                except Reverted:
                    # Enough others have, or the window has closed meanwhile.
                    if self.federation.status(round_id) is Status.CHALLENGE:
                        raise
                    return
                self.report(events.ObjectedTo(round=round_id, reason=judged.objection))

    def forget_secrets(self, now: Federation) -> None:
        """Remove the secrets of every round that is over for good at the block of `now`."""
        files = (self.state / self.federation.address).glob("round-*/secrets.json")
        for round_id in [RoundId(int(each.parent.name.partition("-")[2])) for each in files]:
            told = now.history().round(round_id)
            end = told.finalized or told.abandoned
            final = now.finalized_block()
            if end is None or end.block_number > final:
                continue
            rounds = now.history().rounds
            if not still_accountable(rounds, told, self.address, final):
                self._masks(round_id).erase()

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

    def _account_for_masks(self) -> None:
        """Post what there is to say of our masks in every set that was refused."""
        if self.spec.privacy == "clear":
            return
        now = self.federation.now()
        for round_id, told in now.history().rounds.items():
            masks = self._masks(round_id)
            posts = len(told.masking.streams)
            is_due = must_account(told, self.address) and masks.has_secrets
            if not is_due or self._accounted.get(round_id) == posts:
                continue
            raw, is_whole = make_account(self.context(round_id, now), masks, self.trust)
            (digest,) = self.store.put_blocks([raw])
            if not is_posted(told, self.address, digest):
                receipt = self.federation.post_streams(round_id, digest)
                self.report(events.MasksAccounted(round=round_id, gas=receipt.gas_used))
            elif is_whole:
                self._accounted[round_id] = posts

    def _mask(self, round_id: RoundId, prepared: Prepared) -> tuple[LayerFolder, Reveal] | None:
        """Return the masked update and what to reveal of it; None until the commitments are final.

        On a chain that shows no finality in time, the deadline decides: a mask for others than
        those who committed costs the round, a missed reveal the penalty, and neither a secret.
        """
        now, masks = self.federation.now(), self._masks(round_id)
        half = now.terms().windows.reveal_seconds // 2
        is_early = now.next_time() < now.get_round(round_id).reveal_deadline - half
        depth = depth_of_finality(now)
        if is_early and not has_ended(now, round_id, Status.COMMIT, depth):
            waiting = events.WaitingForConfirmations(round=round_id)
            self._report_once(f"final {round_id}", waiting)
            self.federation.ask_for_block()
            return None
        context, least = self.context(round_id, now), now.terms().rules.min_set
        if len(context.told.committed) < least:
            reason = f"{len(context.told.committed)} committed, {least} are needed to open a sum"
            event = events.KeepsSecrets(round=round_id, reason=reason)
            self._report_once(f"few {round_id}", event)
            return None
        with self.recorder.phase("mask", round_id):
            masks.mask(context, self._update_folder(round_id), prepared.examples)
        return masks.files, masks.reveal(prepared.examples)

    def _send_commitment(self, round_id: RoundId, prepared: Prepared) -> Receipt:
        if self.spec.privacy == "clear":
            return self.federation.commit(round_id, self._commitment(round_id, prepared))
        # Here alone: secrets that are lost later are lost, and others in their place no help.
        key = self._masks(round_id).draw()
        return self.federation.commit_masked(round_id, self._commitment(round_id, prepared), key)

    def _send_reveal(self, shown: Reveal, round_id: RoundId, salt: bytes) -> Receipt:
        root, manifest, examples = shown.root, shown.manifest, shown.examples
        if shown.secrets is None:
            return self.federation.reveal(round_id, root, manifest, examples, salt)
        opening, key = Opening(root, manifest, examples), self._masks(round_id).public_key()
        return self.federation.reveal_masked(round_id, opening, key, salt, shown.secrets)

    def _masks(self, round_id: RoundId) -> Masks:
        return Masks(self._round_folder(round_id), self.address)

    def _report_once(self, key: str, event: events.Event) -> None:
        if key not in self._said:
            self._said.add(key)
            self.report(event)

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
        except BudgetSpent as error:
            self._failures[round_id] = _TRIES
            self.report(events.PrivacyUsedUp(round=round_id, reason=str(error)))
            return None

    def _prepare(self, round_id: RoundId) -> Prepared:
        self.report(events.FetchingModel(round=round_id))
        now = self.federation.now()
        context = self.context(round_id, now)
        # Nothing of rounds long over can be demanded any more; before the model takes its room.
        self._drop_old(context)
        self.forget_secrets(now)
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
            subject = self._subject(round_id, "update")
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
            kind = self.spec.update_kind
            with suppress(Misconfigured, OSError):
                if kind == "masked":
                    masks = self._masks(number)
                    if (made := masks.masked()) is not None:
                        root = parse_digest(made.root)
                        yield build_manifest(
                            masks.files, self.spec, self._subject(number, kind), root
                        )
                elif (prepared := self._load(number)) is not None:
                    root, folder = parse_digest(prepared.root), self._update_folder(number)
                    yield build_manifest(folder, self.spec, self._subject(number, kind), root)

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
                is_own = submission.digest == self._revealed_digest(round_id, prepared)
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

    def _revealed_digest(self, round_id: RoundId, prepared: Prepared) -> bytes:
        shown = _reveal_of(self.address, prepared)
        if self.spec.privacy == "masked":
            masks = self._masks(round_id)
            if masks.masked() is None:
                return b""
            shown = masks.reveal(prepared.examples)
        return shown.digest[:PREFIX_BYTES]

    def _commitment(self, round_id: RoundId, prepared: Prepared) -> Digest:
        if self.spec.privacy == "masked":
            return compute_masked_commitment(
                self.federation.address,
                round_id,
                self.address,
                self._masks(round_id).public_key(),
                prepared.examples,
                bytes.fromhex(prepared.salt),
            )
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

    def _subject(self, round_id: RoundId, kind: PublishedKind) -> Subject:
        return Subject(self.federation.chain_id, self.federation.address, round_id, kind)


def _reveal_of(participant: Address, prepared: Prepared) -> Reveal:
    root, manifest = parse_digest(prepared.root), parse_digest(prepared.manifest)
    return Reveal(participant, root, manifest, prepared.examples)
