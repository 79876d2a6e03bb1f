"""An aggregator driven by deadlines alone: participants follow the contract by themselves.

The rounds are the aggregator's. What is added here is what a process left running needs: it waits
for enough participants, asks nobody, and looks again after a fault.
"""

from collections.abc import Callable
from typing import Final, Literal

from aggregator.aggregator import Aggregator
from aggregator.settings import AggregatorSettings
from chain.federation import connect_federation
from chain.location import FederationLocation
from chain.phases import check_confirmations, is_settled
from contracts.enums import AggregatorState, Status
from ethereum.transactions import SendingLimits
from ethereum.wallet import Wallet
from protocol.errors import Misconfigured
from protocol.types import RoundId
from runtime import events
from runtime.events import Report
from runtime.service import Service, alone
from storage.ipfs import ContentStore

_PHASES: Final = {"commit": Status.COMMIT, "reveal": Status.REVEAL}


def run_aggregator(
    settings: AggregatorSettings,
    open_wallet: Callable[[], Wallet],
    service: Service,
    report: Report,
) -> None:
    """Play the federation's rounds until it is over.

    Misconfigured when the settings are wrong or another process has the wallet; what is only
    unavailable is waited for.
    """
    with alone(settings.state, settings.keystore):
        wallet = open_wallet()
        report(events.Starting(aggregator=wallet.address))
        aggregator = service.insist(lambda: open_aggregator(settings, wallet, report))
        aggregator.wait = service.pause
        service.keep(Leader(aggregator, settings, service).step)


def open_aggregator(settings: AggregatorSettings, wallet: Wallet, report: Report) -> Aggregator:
    """Return the aggregator of these settings. Misconfigured or Unavailable, in one line."""
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
    phase_seconds = federation.terms().propose_seconds
    check_confirmations(federation, settings.confirmations, phase_seconds, "propose")
    aggregator = Aggregator(
        federation,
        ContentStore(location.ipfs_url),
        settings.state,
        report,
        settings.mode,
    )
    aggregator.confirmations = settings.confirmations
    if aggregator.bond_state() is AggregatorState.UNLISTED:
        raise Misconfigured(
            f"{wallet.address} is not an aggregator of {aggregator.federation.address}: "
            "the sponsor lists them when the federation is created"
        )
    return aggregator


class Leader:
    """Plays round after round, as the lead or standing by."""

    def __init__(
        self, aggregator: Aggregator, settings: AggregatorSettings, service: Service
    ) -> None:
        self.aggregator = aggregator
        self.federation = aggregator.federation
        self.settings = settings
        self.service = service
        self._has_told = False

    def step(self) -> bool:
        """Play one round to its end, or wait for participants; False once all is over."""
        if self.federation.is_over():
            return self._finish()
        self._withdraw(max(1, self._units(self.settings.withdraw_at)))
        if self.aggregator.bond_state() is AggregatorState.SLASHED:
            self.aggregator.report(
                events.Out(reason="the bond was taken: see the federation's events")
            )
            return False
        self.aggregator.bond()
        if self._lacks_participants():
            return True
        round_id = self.aggregator.next_round()
        if round_id is None:
            return self._finish()
        final = self.aggregator.play(round_id, self._await_phase_end)
        self.aggregator.report(events.RoundOver(round=round_id, outcome=final.name.lower()))
        return True

    def _await_phase_end(self, action: Literal["commit", "reveal"], round_id: RoundId) -> None:
        """Wait until all have acted, or the phase's time is up."""
        while self.federation.status(round_id) is _PHASES[action]:
            self.service.pause()

    def _lacks_participants(self) -> bool:
        """Whether no round is open and too few have joined for one; said once."""
        now = self.federation.now()
        newest = now.round_count()
        if newest and not now.get_round(newest).is_ended:
            return False
        active, wanted = now.active_count(), self.settings.min_participants
        lacks = active < wanted and not now.is_over()
        if lacks and not self._has_told:
            self.aggregator.report(events.WaitingForParticipants(active=active, wanted=wanted))
        self._has_told = lacks
        return lacks

    def _finish(self) -> bool:
        """Take the bond and what is due back, once the last round's end is final; False then."""
        depth, seconds = self.settings.confirmations, self.aggregator.terms.propose_seconds // 2
        if not is_settled(self.federation, depth, seconds):
            return True
        if self.aggregator.bond_state() is AggregatorState.BONDED:
            receipt = self.federation.unbond()
            self.aggregator.report(events.Unbonded(gas=receipt.gas_used))
        self._withdraw(1)
        self.aggregator.report(events.Finished())
        return False

    def _withdraw(self, at_least: int) -> None:
        amount = self.federation.credit_of(self.aggregator.address)
        if amount >= at_least:
            receipt = self.federation.withdraw()
            self.aggregator.report(events.Withdrew(amount=amount, gas=receipt.gas_used))

    def _units(self, tokens: float) -> int:
        return int(tokens * 10 ** self.federation.token.decimals())
