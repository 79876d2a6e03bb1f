"""What must hold after every schedule, whatever went wrong in it."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

from chain.events import (
    AggregatorSlashed,
    FederationEvent,
    Finalized,
    Paid,
    Penalized,
    ProposalRefuted,
)
from chain.token import Erc20
from contracts.enums import AggregatorState
from devnet.accounts import dev_account
from node.results import Outcome, RoundResult, round_results
from protocol.types import Address, RoundId
from tests.commonweight.program import COMMONWEIGHT
from tests.real.founding import AUDITOR, MEMBERS, MONEY, PARTICIPANTS
from tests.real.network import Network
from tests.real.stage import Stage

_AUDIT_S = 300.0


@dataclass(frozen=True)
class Result:
    """What became of a federation: a line for each round, and what does not hold."""

    rounds: tuple[str, ...]
    blocks: int
    broken: tuple[str, ...]


def check(stage: Stage) -> Result:
    """Look at the chain, the roles' logs and an audit from nothing; return what became of all."""
    federation = stage.founded.client()
    outcomes = {
        name: [*round_results(federation, stage.founded.wallet(name).address)]
        for name in PARTICIPANTS
    }
    rounds = [
        f"round {number}: {federation.status(RoundId(number)).name.lower()}, "
        + ", ".join(f"{name} {outcomes[name][number - 1].outcome.value}" for name in PARTICIPANTS)
        for number in range(1, federation.round_count() + 1)
    ]
    broken = [*_unpaid(stage, outcomes), *_losses(stage), *_money(stage), *audit_failures(stage)]
    blocks = stage.geth.height() - federation.deployment_block
    return Result(tuple(rounds), blocks, (*broken, *_crashes(stage)))


def _unpaid(stage: Stage, outcomes: dict[str, list[RoundResult]]) -> Iterator[str]:
    """Everybody was there, so every round was paid to everybody."""
    for name, results in outcomes.items():
        if len(results) != stage.rounds:
            yield f"{len(results)} rounds were opened, {stage.rounds} were meant"
        for result in results:
            if result.outcome is not Outcome.PAID:
                yield f"{name} was not paid for round {result.round}: {result.reason}"


def _losses(stage: Stage) -> Iterator[str]:
    """Nobody cheated, so nobody lost a stake, a bond or a proposal."""
    for event in stage.founded.client().read_events():
        if isinstance(event, Penalized | AggregatorSlashed | ProposalRefuted):
            yield f"block {event.block_number}: {event!r}"


def _money(stage: Stage) -> Iterator[str]:
    """Tokens in = credited + escrowed + staked + bonded + deposited + withdrawn + burned.

    And who was paid has what it had before and its pay, in its wallet or still in the contract.
    """
    federation = stage.founded.client()
    terms, events = federation.terms(), federation.read_events()
    token = Erc20(federation.w3, terms.money.token)
    credits = stakes = bonds = 0
    for name in MEMBERS:
        address = stage.founded.wallet(name).address
        credit = federation.credit_of(address)
        stake = federation.get_participant(address).stake
        is_bonded = federation.aggregator_state(address) is AggregatorState.BONDED
        bond = terms.money.aggregator_bond if is_bonded else 0
        credits, stakes, bonds = credits + credit, stakes + stake, bonds + bond
        has = token.balance_of(address) + credit + stake + bond
        earned = sum(_pay(event, address) for event in events)
        if has != MONEY + earned:
            yield f"{name} has {has}, began with {MONEY} and was paid {earned}"
    held = token.balance_of(federation.address)
    known = federation.escrow() + stakes + bonds + credits
    known += federation.deposits() + federation.burned()
    if held != known:
        yield f"the contract holds {held}, of which {known} are known"
    holders = [federation.address, Address(dev_account(0).address)]
    holders += [stage.founded.wallet(name).address for name in MEMBERS]
    everywhere = sum(token.balance_of(each) for each in holders)
    if everywhere != token.total_supply():
        yield f"{token.total_supply() - everywhere} token units are nowhere"


def _pay(event: FederationEvent, address: Address) -> int:
    """Return what an event credits `address` with."""
    match event:
        case Paid(participant=who, amount=amount) if who == address:
            return amount
        case Finalized(aggregator=who, fee=fee) if who == address:
            return fee
    return 0


def audit_failures(network: Network) -> Iterator[str]:
    """Return what an audit from nothing finds wrong, on this node, which is no archive."""
    place = network.folder / AUDITOR / "federation.json"
    command = [str(COMMONWEIGHT), "audit", "run", "--federation", str(place), "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_AUDIT_S, check=False)
    if done.returncode:
        failed = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
        said = failed or [done.stderr.strip()[-1000:]]
        yield f"the audit ended with exit code {done.returncode}: " + "; ".join(said)


def _crashes(stage: Stage) -> Iterator[str]:
    """No role ended by an error that is not one of the project's own."""
    for name in MEMBERS:
        if "Traceback" in (log := stage.log(name).read_text()):
            yield f"{name}: {log.strip().splitlines()[-1]}"
