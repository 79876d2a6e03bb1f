"""What must hold after every schedule, whatever went wrong in it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from auditor.masked import DRAW_CLAIM
from auditor.replay import Audit
from auditor.rules import SEED_CLAIM
from chain.events import (
    AggregatorSlashed,
    Committed,
    FederationEvent,
    Paid,
    Penalized,
    Revealed,
    RoundOpened,
    SeedFixed,
    SetSealed,
    SketchFixed,
    Voided,
)
from chain.token import Erc20
from contracts.enums import AggregatorState, Status
from protocol.commitment import compute_commitment
from protocol.types import Digest, RoundId, parse_digest
from storage.files import read_json
from tests.faults.founding import AUDITOR, ROUNDS, SPONSOR, WALLETS
from tests.faults.schedule import LEAD
from tests.faults.stage import Stage

E = TypeVar("E", Committed, Revealed, Penalized)


@dataclass(frozen=True)
class Outcome:
    """What became of the federation under a schedule; `broken` lists what does not hold."""

    rounds: tuple[str, ...] = ()
    paid: int = 0
    missed: int = 0
    penalized: int = 0
    slashed: int = 0
    broken: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check(stage: Stage, history_of: "type[History]") -> Outcome:
    """Look at chain, disks and processes, and return what became of it all."""
    federation, events = stage.federation, stage.federation.read_events()
    rounds = [federation.status(RoundId(n)) for n in range(1, federation.round_count() + 1)]
    history = history_of(stage, events)
    broken = [
        *_ends(rounds),
        *history.commitments(),
        *history.attendance(),
        *history.penalties(),
        *history.ends(),
        *history.leaks(),
        *_money(stage),
        *_audit(stage, history),
        *_crashes(stage),
    ]
    return Outcome(
        rounds=tuple(_end_of(history, RoundId(n), s) for n, s in enumerate(rounds, 1)),
        paid=sum(isinstance(e, Paid) for e in events),
        missed=len(stage.clock.excused),
        penalized=len(history.of(Penalized)),
        slashed=sum(isinstance(e, AggregatorSlashed) for e in events),
        broken=tuple(broken),
    )


def _end_of(history: "History", round_id: RoundId, status: Status) -> str:
    voided = (event.round for event in history.events if isinstance(event, Voided))
    return "voided" if round_id in voided else status.name.lower()


def _ends(rounds: list[Status]) -> Iterator[str]:
    if len(rounds) > ROUNDS or not rounds:
        yield f"{len(rounds)} rounds were opened"
    if any(status not in (Status.FINALIZED, Status.ABANDONED) for status in rounds):
        yield f"a round did not end: {[status.name for status in rounds]}"


class History:
    """Who did what in which round, on the chain and on the roles' disks."""

    def __init__(self, stage: Stage, events: list[FederationEvent]) -> None:
        self.stage = stage
        self.events = events
        self.names = {WALLETS[name].address: name for name in stage.schedule.names}

    def of(self, kind: type[E]) -> dict[tuple[int, str], E]:
        """Return the events of a kind by round and participant."""
        return {(e.round, self.names[e.participant]): e for e in self.events if isinstance(e, kind)}

    def commitments(self) -> Iterator[str]:
        """No second commitment, sent or mined, and none whose salt is lost."""
        for name in self.stage.schedule.names:
            for round_id, sent in self.stage.rpc_lines[name].commitments.items():
                if len(sent) > 1:
                    yield f"{name} sent {len(sent)} commitments for round {round_id}"
        counts = Counter((e.round, e.participant) for e in self.events if isinstance(e, Committed))
        yield from (f"{key} committed {count} times" for key, count in counts.items() if count > 1)
        for (round_id, name), event in self.of(Committed).items():
            if event.commitment != self.commitment_on_disk(name, event):
                yield f"{name} cannot open its commitment of round {round_id}"

    def attendance(self) -> Iterator[str]:
        """Everybody took part in every round, but in those whose deadline it was away for."""
        excused = self.stage.clock.excused
        opened = [e.round for e in self.events if isinstance(e, RoundOpened)]
        expected = {(number, name) for number in opened for name in self.names.values()} - excused
        for verb, present in (("commit", self.of(Committed)), ("reveal", self.of(Revealed))):
            for round_id, name in sorted(expected - set(present)):
                yield f"{name} did not {verb} in round {round_id}, and was not away"

    def penalties(self) -> Iterator[str]:
        """A stake is cut for a commitment not revealed, a bond for a deadline, and for no other."""
        penalized = set(self.of(Penalized))
        unrevealed = set(self.of(Committed)) - set(self.of(Revealed))
        if penalized != unrevealed:
            yield f"penalized {penalized}, unrevealed {unrevealed}"
        yield from self.bonds()

    def bonds(self) -> Iterator[str]:
        """A bond is cut for a deadline, and for nothing else."""
        slashed = {e.aggregator for e in self.events if isinstance(e, AggregatorSlashed)}
        late = {WALLETS[LEAD].address for _, name in self.stage.clock.excused if name == LEAD}
        if slashed != late:
            yield f"slashed {slashed}, late {late}"

    def ends(self) -> Iterator[str]:
        """How a round may end; see `_ends` for what holds of every one."""
        yield from ()

    def leaks(self) -> Iterator[str]:
        """What must not be public and is: in clear rounds all of an update is."""
        yield from ()

    def prepared(self, name: str, round_id: int) -> dict[str, Any]:
        """Return what a participant's disk says of its update of a round."""
        state = self.stage.folder / name / "state" / self.stage.founded.address
        fields: dict[str, Any] = read_json(state / f"round-{round_id:04d}" / "prepared.json")
        return fields

    def commitment_on_disk(self, name: str, event: Committed) -> Digest:
        """Return the commitment that a participant's disk can open."""
        prepared = self.prepared(name, event.round)
        return compute_commitment(
            self.stage.founded.address,
            RoundId(event.round),
            event.participant,
            parse_digest(prepared["root"]),
            parse_digest(prepared["manifest"]),
            prepared["examples"],
            bytes.fromhex(prepared["salt"]),
        )


def _audit(stage: Stage, history: History) -> Iterator[str]:
    """Every check of an audit passes, but for seeds from a block whose hash anvil had forgotten.

    Started from its state, anvil 1.7.1 gives BLOCKHASH another value for each block before that, so
    an audit rightly refuses a seed when the chain was stopped between openRound and fixSeed, and
    the sketches' vectors when it was between sealSet and fixSketch.
    """
    opened = {e.round: e.opened_block for e in history.events if isinstance(e, RoundOpened)}
    seeded = {e.round: e.block_number for e in history.events if isinstance(e, SeedFixed)}
    sealed = {e.round: e.block_number for e in history.events if isinstance(e, SetSealed)}
    drawn = {e.round: e.block_number for e in history.events if isinstance(e, SketchFixed)}
    forgotten = {
        (claim, number)
        for claim, since, until in ((SEED_CLAIM, opened, seeded), (DRAW_CLAIM, sealed, drawn))
        for number, block in until.items()
        if any(since[number] <= height < block for height in stage.strikes.stops)
    }
    for line in Audit(stage.federation, stage.store, stage.folder / "audit").run():
        is_forgotten = (line.claim, line.round_id) in forgotten
        # What the aggregator's store did not have in time it rejects, and the audit finds it later.
        if not line.passed and not is_forgotten and not line.seen_differently:
            yield line.line()


def _money(stage: Stage) -> Iterator[str]:
    """No token is made or lost, and whoever earned something has it."""
    federation, terms = stage.federation, stage.federation.terms()
    token = Erc20(stage.w3, terms.money.token)
    people = [WALLETS[name].address for name in stage.schedule.roles]
    stakes = sum(federation.get_participant(address).stake for address in people)
    held = token.balance_of(federation.address)
    known = federation.escrow() + stakes + federation.burned()
    if held != known:
        yield f"the contract holds {held}; escrow, stakes and what was burned are {known}"
    wallets = [SPONSOR, AUDITOR, *WALLETS.values()]
    holders = [federation.address, *(wallet.address for wallet in wallets)]
    everywhere = sum(map(token.balance_of, holders))
    if everywhere != token.total_supply():
        yield f"{token.total_supply() - everywhere} token units are nowhere"
    for name in stage.schedule.roles:
        if credit := federation.credit_of(WALLETS[name].address):
            yield f"{name} left a credit of {credit}"
    for name in stage.schedule.aggregators:
        if federation.aggregator_state(WALLETS[name].address) is AggregatorState.BONDED:
            yield f"{name} left its bond"


def _crashes(stage: Stage) -> Iterator[str]:
    """No role ended by an error that is not one of the project's own."""
    for path in sorted(stage.folder.glob("*.log")):
        told = path.read_text().splitlines()
        for place, line in enumerate(told):
            if line.startswith("Traceback"):
                # Its frames are indented, and the error is not.
                yield f"{path.stem}: {next(e for e in told[place + 1 :] if not e.startswith(' '))}"
