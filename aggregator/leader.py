"""An aggregator driven by deadlines alone; participants follow the contract by themselves.

`aggregator.aggregator` plays the rounds. This module adds what an unattended process needs: it
waits for enough participants and escrow, frees seats that nobody uses, sends no messages, and tries
again after a fault.
"""

from collections.abc import Callable
from functools import cache
from typing import Final

from aggregator.aggregator import Action, Aggregator
from aggregator.announced import PlaceChecks, prove_announced, require_gateway
from aggregator.evaluator import open_evaluator
from aggregator.settings import AggregatorSettings
from chain.federation import Federation, connect_federation
from chain.location import FederationLocation
from chain.phases import check_confirmations, is_settled
from contracts.enums import AggregatorState, Status
from contracts.reverts import Reverted
from ethereum.transactions import SendingLimits
from ethereum.wallet import Wallet
from protocol.errors import Misconfigured
from protocol.types import RoundId
from rounds.score import Evaluate
from runtime import events
from runtime.announcing import Announcing
from runtime.events import Report
from runtime.founded import check_founded
from runtime.service import Service, alone

_PHASES: Final[dict[Action, Status]] = {
    "commit": Status.COMMIT,
    "reveal": Status.REVEAL,
    "unmask": Status.UNMASK,
}


def run_aggregator(
    settings: AggregatorSettings,
    open_wallet: Callable[[], Wallet],
    service: Service,
    report: Report,
    *,
    dev: bool = False,
) -> None:
    """Play the federation's rounds until it is over, waiting for services that are unavailable.

    With `dev` it bonds without a gateway, as on a development chain. Raises Misconfigured when the
    settings are wrong or another process uses the wallet.
    """
    # Locked before the password is asked for: two processes with one wallet would clash.
    with alone(settings.state, settings.keystore):
        wallet = open_wallet()
        report(events.Starting(aggregator=wallet.address))
        aggregator = service.insist(lambda: open_aggregator(settings, wallet, report, dev=dev))
        service.shortest_phase_s = aggregator.terms.windows.shortest_seconds
        aggregator.wait = service.pause
        service.keep(Leader(aggregator, settings, service).step)


def open_aggregator(
    settings: AggregatorSettings, wallet: Wallet, report: Report, *, dev: bool = False
) -> Aggregator:
    """Return the aggregator that the settings describe; `dev` as for `run_aggregator`.

    Raises Misconfigured, or Unavailable when the chain or the content store does not answer.
    """
    location = FederationLocation.load(settings.federation)
    limits = SendingLimits(max_fee_per_gas=settings.max_fee_per_gas)
    journal = settings.state / f"transactions-{wallet.address}.json"
    federation = connect_federation(
        location,
        wallet,
        limits,
        journal,
        lambda line: report(events.TransactionTrouble(reason=line)),
    )
    check_founded(settings.state, federation)
    federation.keep_events(settings.state / federation.address)
    wei, reason = federation.sender.fee_limit()
    report(events.FeeLimit(wei=wei, reason=reason))
    phase_seconds = federation.terms().windows.propose_seconds
    check_confirmations(federation, settings.confirmations, phase_seconds, "propose")
    aggregator = Aggregator(
        federation,
        settings.store.open(location.ipfs_url, wallet.address, peers_with_authors=True),
        settings.state,
        report,
        settings.mode,
    )
    aggregator.confirmations = settings.confirmations
    aggregator.update_seconds = settings.update_seconds
    aggregator.keeps_all = settings.keep == "all"
    aggregator.owns_store = settings.store.is_own(location.ipfs_url)
    # The list is fixed at deployment: waiting would not help.
    if aggregator.bond_state() is AggregatorState.UNLISTED:
        raise Misconfigured(
            f"{wallet.address} is not an aggregator of {aggregator.federation.address}: "
            "the sponsor lists them when the federation is created"
        )
    if aggregator.bond_state() is AggregatorState.LISTED:
        require_gateway(settings.store, federation.chain_id, dev=dev)
    aggregator.before_bond = lambda: prove_announced(aggregator, settings.store)
    aggregator.keep_founding()
    if aggregator.spec.scoring == "heldOut":
        _prepare_scoring(aggregator, settings)
    return aggregator


def _prepare_scoring(aggregator: Aggregator, settings: AggregatorSettings) -> None:
    """Load the base model and try it, before a bond depends on it.

    Who is bonded already loads it in the time that a round has for scoring, and again in the next
    round if that fails: here whatever is slow could make a proposal late, which costs the bond.
    """

    @cache
    def opened() -> Evaluate:
        if settings.model is None:
            raise Misconfigured(
                "this federation pays by measured help: set `model` to where the base model is"
            )
        return open_evaluator(aggregator.spec, aggregator.store, settings.model, settings.cache)

    if aggregator.bond_state() is AggregatorState.BONDED:
        aggregator.score_with(lambda model: opened()(model))
    else:
        aggregator.try_evaluator(opened())


class Leader:
    """Plays round after round, as the active aggregator or a standby."""

    def __init__(
        self, aggregator: Aggregator, settings: AggregatorSettings, service: Service
    ) -> None:
        self.aggregator = aggregator
        self.federation = aggregator.federation
        self.settings = settings
        self.service = service
        self._checks = PlaceChecks(aggregator, settings.store)
        self._announcing = Announcing(
            aggregator.federation, settings.store, lambda event: aggregator.report(event)
        )
        self._lack: events.Event | None = None  # as it was reported

    def step(self) -> bool:
        """Play one round to its end, or wait for participants; False once all is done."""
        if self.federation.is_over():
            return self._finish()
        # Between rounds: a withdrawal must not delay a step that has a deadline.
        self._withdraw(int(self.settings.withdraw_at * 10 ** self.federation.token.decimals()))
        if self.aggregator.bond_state() is AggregatorState.SLASHED:
            self.aggregator.report(
                events.Out(reason="the bond was taken: see the federation's events")
            )
            return False
        self.aggregator.bond()
        self._announcing.look()
        now = self.federation.now()
        self._checks.look(now)
        newest = now.round_count()
        if not newest or now.get_round(newest).is_ended:
            self._free_seats(now)
            # A round opened too early would end early: it expects only those that it finds active.
            if self._reports_lack(now):
                return True
        round_id = self.aggregator.next_round()
        if round_id is None:
            return self._finish()
        final = self.aggregator.play(round_id, self._await_phase_end)
        self.aggregator.report(events.RoundOver(round=round_id, outcome=final.name.lower()))
        return True

    def _await_phase_end(self, action: Action, round_id: RoundId) -> None:
        """Wait until everybody has acted or the phase's deadline has passed.

        Not while shares arrive, which are the aggregator's to put together.
        """
        while self.federation.status(round_id) is _PHASES.get(action):
            if action == "unmask":  # the draw, should a reorganisation have undone it
                self.aggregator.open_sum(round_id)
            self.service.pause()

    def _reports_lack(self, now: Federation) -> bool:
        """Whether a round cannot be opened yet; what is missing is reported once."""
        seats, active = now.terms().seats, now.active_count()
        wanted = max(self.settings.min_participants, seats.min_participants)
        escrow, cost = now.escrow(), now.terms().round_cost
        lack: events.Event | None = None
        if active < wanted:
            lack = events.WaitingForParticipants(active=active, wanted=wanted)
        elif escrow < cost:
            lack = events.WaitingForEscrow(escrow=escrow, round_cost=cost)
        if lack is not None and lack != self._lack:
            self.aggregator.report(lack)
        self._lack = lack  # again, should participants leave later
        return lack is not None

    def _free_seats(self, now: Federation) -> None:
        """Free the seats of participants that missed the rounds that asked them."""
        # Whoever leads loses by seats that nobody uses: they are asked in place of others.
        history, seats = now.history(), now.terms().seats
        for participant in list(history.active):
            missed = history.missed_rounds(participant, seats)
            if len(missed) < seats.max_missed:
                continue
            try:
                receipt = self.federation.evict(participant, missed[-seats.max_missed :])
            except Reverted:
                # Another aggregator may have done so, or the participant have left.
                if self.federation.get_participant(participant).active:
                    raise
                continue
            self.aggregator.report(
                events.SeatFreed(participant=participant, missed=len(missed), gas=receipt.gas_used)
            )

    def _finish(self) -> bool:
        """Take back the bond and withdraw, once the end of the last round is final; False then."""
        # A reorganisation could undo the last settlement, which then has to be sent again.
        half = self.aggregator.terms.windows.propose_seconds // 2
        if not is_settled(self.federation, self.settings.confirmations, half):
            return True
        if self.aggregator.bond_state() is AggregatorState.BONDED:
            receipt = self.federation.unbond()
            self.aggregator.report(events.Unbonded(gas=receipt.gas_used))
        self._withdraw()
        self.aggregator.report(events.Finished())
        return False

    def _withdraw(self, at_least: int = 0) -> None:
        """Withdraw the credit if it is at least so many token units, and not zero."""
        amount = self.federation.credit_of(self.aggregator.address)
        if amount and amount >= at_least:
            to = self.settings.withdraw_to
            receipt = self.federation.withdraw() if to is None else self.federation.withdraw_to(to)
            self.aggregator.report(events.Withdrew(amount=amount, gas=receipt.gas_used))
