"""A participant that follows the contract by itself, without Flower and without messages.

Each step reads one mined block and takes at most one action:

    join        when not yet a member, or again after a penalty if the settings say so
    fix seed    of a round that has waited for it too long
    commit      in the commit phase of a round that asks us
    reveal      once a mined block, as deep as the settings require, has ended the commit phase
    unmask      what the sum of a masked round needs; shares of who is silent; objections
    withdraw    between rounds, when the credit is worth the gas

A participant that missed a round takes part in the next one.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from chain.federation import Federation, connect_federation
from chain.invitation import Invitation
from chain.location import FederationLocation
from chain.phases import (
    check_confirmations,
    depth_of_finality,
    fix_seed,
    has_ended,
    is_seed_overdue,
    is_settled,
    void_round,
)
from contracts.enums import Status, SubmissionState
from contracts.reverts import Reverted
from ethereum.transactions import SendingLimits
from ethereum.wallet import Wallet
from node.participant import Participant, training_failures
from node.privacy import Ledger, PrivacyBudget
from node.results import Standing, round_results, standing_of
from node.settings import ParticipantSettings
from node.trainer import LocalTrainer, open_trainer
from protocol.types import RoundId
from runtime import events
from runtime.announcing import Announcing
from runtime.events import Event, Report
from runtime.founded import check_founded
from runtime.service import Service, alone

_UNDER_WAY: Final = (Status.COMMIT, Status.REVEAL)
_OF_MASKED: Final = (Status.UNMASK, Status.ASSIST, Status.VOID)


def run_participant(
    settings: ParticipantSettings,
    open_wallet: Callable[[], Wallet],
    service: Service,
    report: Report,
) -> None:
    """Follow the federation until it is over or this participant has left it.

    Waits for services that are unavailable. Raises Misconfigured when the settings are wrong or
    another process uses the wallet.
    """
    # Locked before the password is asked for: two processes with one wallet would clash.
    with alone(settings.state, settings.keystore):
        wallet = open_wallet()
        report(events.Starting(participant=wallet.address))
        participant = service.insist(lambda: open_participant(settings, wallet, report))
        trainer = open_trainer(settings, participant.store, report)
        service.shortest_phase_s = participant.federation.terms().windows.shortest_seconds
        evaluate = partial(report_loss, participant, trainer) if settings.evaluate else None
        service.keep(Follower(participant, settings, evaluate).step)


def open_participant(settings: ParticipantSettings, wallet: Wallet, report: Report) -> Participant:
    """Return the participant that the settings describe.

    Raises Misconfigured, or Unavailable when the chain or the content store does not answer.
    """
    location = FederationLocation.load(settings.federation)
    store = settings.store.open(location.ipfs_url, wallet.address, peers_with_authors=False)
    journal = settings.state / f"transactions-{wallet.address}.json"
    federation = connect_wallet(
        settings, wallet, journal, lambda line: report(events.TransactionTrouble(reason=line))
    )
    check_founded(settings.state, federation)
    federation.keep_events(settings.state / federation.address)
    wei, reason = federation.sender.fee_limit()
    report(events.FeeLimit(wei=wei, reason=reason))
    phase_seconds = federation.terms().windows.reveal_seconds
    check_confirmations(federation, settings.confirmations, phase_seconds, "reveal")
    budget = open_budget(settings, federation, report)
    trainer = open_trainer(settings, store, report, budget)
    participant = Participant(federation, store, trainer, settings.state, report, budget)
    participant.withdraw_to = settings.withdraw_to
    participant.trust = settings.privacy.trust()
    participant.public = settings.store.reader()
    participant.owns_store = settings.store.is_own(location.ipfs_url)
    return participant


def open_budget(
    settings: ParticipantSettings, federation: Federation, report: Report
) -> PrivacyBudget | None:
    """Return the privacy budget, and report what is spent of it; None where there is none."""
    target = settings.privacy.target(federation.terms().seats.rounds)
    if target is None:
        return None
    spent = Ledger.read(settings.state).epsilon
    report(events.PrivacySpent(epsilon=spent, of=target.epsilon, delta=target.delta))
    return PrivacyBudget(settings.state, federation, federation.sender.address, target, report)


def connect_wallet(
    settings: ParticipantSettings,
    wallet: Wallet,
    journal: Path | None = None,
    report: Callable[[str], None] | None = None,
) -> Federation:
    """Return the contract as this participant's wallet uses it."""
    location = FederationLocation.load(settings.federation)
    limits = SendingLimits(max_fee_per_gas=settings.max_fee_per_gas)
    return connect_federation(location, wallet, limits, journal, report)


def report_loss(
    participant: Participant, trainer: LocalTrainer, now: Federation, round_id: RoundId
) -> None:
    """Report the held-out loss of the model that stands after a round at the block of `now`."""
    model = participant.fetch_model(participant.context(RoundId(round_id + 1), now))
    with participant.recorder.phase("evaluate", round_id + 1), training_failures():
        loss, tokens = trainer.evaluate(participant.spec, participant.store, model, 0, 1)
    participant.report(events.Evaluated(round=round_id, loss=loss, tokens=tokens))


class Follower:
    """Decides from the chain what a participant does next."""

    def __init__(
        self,
        participant: Participant,
        settings: ParticipantSettings,
        evaluate: Callable[[Federation, RoundId], None] | None = None,
    ) -> None:
        self.participant = participant
        self._evaluate = evaluate
        self.settings = settings
        self._reported: set[str] = set()
        self._settled_up_to = RoundId(0)
        self._worthwhile: int | None = None  # token units
        self._announcing = Announcing(
            participant.federation, settings.store, lambda event: participant.report(event)
        )

    @property
    def federation(self) -> Federation:
        """The contract of the federation."""
        return self.participant.federation

    def step(self) -> bool:
        """Do what is due; return False once nothing can become due again."""
        now = self.federation.now()
        newest = now.round_count()
        status = now.status(newest) if newest else Status.NONE
        if status is Status.SEED and is_seed_overdue(now, newest, self.participant.address):
            self._fix_seed(newest)
        # A round that asks us goes first: its deadlines cost stake, everything else can wait.
        if status in _UNDER_WAY and self._act(now, newest, status):
            return True
        if now.terms().is_masked:
            self._act_masked(newest, status)
        if status in _OF_MASKED:
            return True
        last = newest if status.is_ended else RoundId(max(newest - 1, 0))
        self._report_results(now, last)
        self.participant.forget_secrets(now)
        if now.is_over():
            return self._finish(now)
        return self.stay_in(now)

    # ---------------------------------------------------------------- a round

    def _fix_seed(self, round_id: RoundId) -> None:
        receipt = fix_seed(self.federation, round_id)
        if receipt is not None:
            event = events.SeedFixed(round=round_id, gas=receipt.gas_used)
            self.participant.report(event)

    def _act(self, now: Federation, round_id: RoundId, status: Status) -> bool:
        """Take the step that a round's phase asks for; return whether the round is ours."""
        try:
            if status is Status.COMMIT:
                # First: an update that nobody finds is rejected, and a round may be open as soon as
                # we have joined.
                if self._standing(now) is Standing.ACTIVE:
                    self._announcing.look()
                is_ours = self.participant.commit(round_id) is not None
            else:
                is_ours = self._reveal_when_ended(now, round_id)
        except Reverted as error:
            # The phase may have ended, or an earlier transaction been mined, since `now` was read.
            if self.federation.status(round_id) is status:
                raise
            late = events.TooLate(round=round_id, reason=str(error))
            self._report_once(f"late {round_id}", late)
            return True
        if not is_ours and self._standing(now) is Standing.ACTIVE:
            event = events.NothingToDo(round=round_id, phase_now=status.name)
            self._report_once(f"idle {round_id}", event)
        return is_ours

    def _act_masked(self, round_id: RoundId, status: Status) -> None:
        """Do our part in opening a masked round's sum, or in refusing it."""
        try:
            match status:
                case Status.UNMASK:
                    self.participant.unmask(round_id)
                case Status.ASSIST:
                    self.participant.unmask(round_id)
                    self.participant.assist(round_id)
                case Status.CHALLENGE:
                    self.participant.object(round_id)
                case Status.VOID:
                    void_round(self.federation, round_id)
        except Reverted as error:
            # As in `_act`: others may have ended the phase since it was looked at.
            if self.federation.status(round_id) is status:
                raise
            late = events.TooLate(round=round_id, reason=str(error))
            self._report_once(f"late {round_id}", late)

    def _reveal_when_ended(self, now: Federation, round_id: RoundId) -> bool:
        """Reveal once mined blocks have ended the commit phase, or half of the time is gone.

        Until the phase has ended for good, others could commit to a copy of what we reveal.
        """
        state = now.get_submission(round_id, self.participant.address).state
        if state is SubmissionState.COMMITTED:
            depth, half = self.settings.confirmations, now.terms().windows.reveal_seconds // 2
            if now.terms().is_masked:
                depth = max(depth, depth_of_finality(now))
            # A chain that has stopped mining never shows the end, and a missed reveal costs the
            # penalty. So the deadline decides, with half of the phase left for the transaction.
            is_early = now.next_time() < now.get_round(round_id).reveal_deadline - half
            if is_early and not has_ended(now, round_id, Status.COMMIT, depth):
                event = events.WaitingForConfirmations(round=round_id)
                self._report_once(f"bury {round_id}", event)
                if now.terms().is_masked:
                    self.federation.ask_for_block()
                return True
            self.participant.reveal(round_id)
        return state is not SubmissionState.NONE

    # ------------------------------------------------------------- membership

    def _standing(self, now: Federation) -> Standing:
        return standing_of(now, self.participant.address)

    def stay_in(self, now: Federation) -> bool:
        """Join if due, and withdraw credit that is worth the gas; False once the stake is back."""
        if self._worthwhile is None:
            unit = 10 ** self.federation.token.decimals()
            self._worthwhile = max(1, round(self.settings.withdraw_at * unit))
        if now.credit_of(self.participant.address) >= self._worthwhile:
            self.participant.withdraw()
        standing = self._standing(now)
        match standing:
            case Standing.ACTIVE:
                self._announcing.look()
                return True
            case Standing.LEAVING | Standing.EVICTED if not self._comes_back(standing):
                return self._await_stake(now)
            case Standing.LEFT if not self.settings.rejoin:
                left = events.Left(advice="set rejoin = true to take part again")
                self._report_once("left", left)
                return False
            case Standing.PENALIZED if not self.settings.rejoin:
                # Not the end: an operator may fill the stake up by hand, without a restart.
                out = events.Out(advice="set rejoin = true to fill the stake up")
                self._report_once("penalized", out)
                return True
            case _:
                self._join(now)
                return True

    def _comes_back(self, standing: Standing) -> bool:
        # Whoever leaves wants to; an evicted seat was only away for too long.
        return standing is Standing.EVICTED and self.settings.rejoin

    def _join(self, now: Federation) -> None:
        """Join, with the settings' invitation where the federation asks for one."""
        file = self.settings.invitation
        if file is None and now.terms().seats.by_invitation:
            advice = "ask the sponsor for an invitation: `commonweight participant join` takes it"
            self._report_once("uninvited", events.Uninvited(advice=advice))
            return
        invitation = None if file is None else Invitation.load(str(file))
        receipt = self.federation.join(invitation)
        self.participant.report(
            events.Joined(participant=self.participant.address, gas=receipt.gas_used)
        )
        self._reported.discard("penalized")  # a later penalty is news again

    def _await_stake(self, now: Federation) -> bool:
        unlock_at = now.get_participant(self.participant.address).unlock_at
        if now.next_time() < unlock_at:
            self._report_once("leaving", events.Leaving(until=unlock_at))
            return True
        self.participant.withdraw_all()
        self.participant.report(events.Left(advice="the stake is withdrawn"))
        return False

    # ------------------------------------------------------------------ money

    def _finish(self, now: Federation) -> bool:
        """Withdraw what is left once the federation is over; False when that is done and final.

        A reorganisation could undo the last settlement, and the credit would have to be withdrawn
        again.
        """
        self.participant.withdraw()
        address, depth = self.participant.address, self.settings.confirmations
        if not is_settled(self.federation, depth, now.terms().windows.reveal_seconds // 2, address):
            waiting = events.WaitingForConfirmations(round=now.round_count())
            self._report_once("settle", waiting)
            return True
        match self._standing(now):
            case Standing.LEAVING | Standing.EVICTED:
                return self._await_stake(now)
            case Standing.ACTIVE | Standing.PENALIZED:
                advice = "`commonweight participant leave` gets the stake back"
            case _:
                advice = ""
        paid = sum(each.paid for each in round_results(now, self.participant.address))
        self.participant.report(events.Finished(paid=paid, advice=advice))
        return False

    # -------------------------------------------------------------- reporting

    def _report_results(self, now: Federation, last: RoundId) -> None:
        """Report the result of every round that ended, up to `last`, once."""
        if last <= self._settled_up_to:
            return
        for result in round_results(now, self.participant.address):
            if self._settled_up_to < result.round <= last:
                self.participant.report(
                    events.RoundOver(
                        round=result.round,
                        outcome=result.outcome.value,
                        paid=result.paid,
                        reason=result.reason,
                    )
                )
        self._settled_up_to = last
        if self._evaluate is not None:
            self._evaluate(now, last)

    def _report_once(self, key: str, event: Event) -> None:
        """Report an event that would otherwise be reported at every step."""
        if key not in self._reported:
            self._reported.add(key)
            self.participant.report(event)
