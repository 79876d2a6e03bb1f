"""What must hold after every schedule, whatever went wrong in it."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from chain.events import AggregatorSlashed, Committed, Paid, Penalized, Revealed
from chain.records import AggregatorState, Status
from protocol.commitment import compute_commitment
from protocol.quantities import RoundId, parse_digest
from storage.files import read_json
from tests.faults.schedule import LEAD, STANDBY
from tests.faults.stage import ROUNDS, TOKEN, Stage


@dataclass(frozen=True)
class Outcome:
    """What became of the federation under a schedule; `broken` lists what does not hold."""

    rounds: tuple[str, ...]
    paid: int
    missed: int
    penalized: int
    slashed: int
    broken: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check(stage: Stage) -> Outcome:
    """Look at chain, disks and processes, and return what became of it all."""
    federation = stage.client()
    events = federation.read_events()
    broken: list[str] = []
    statuses = [federation.status(RoundId(n)) for n in range(1, federation.round_count() + 1)]
    if any(s not in (Status.FINALIZED, Status.ABANDONED) for s in statuses):
        broken.append(f"a round did not end: {[s.name for s in statuses]}")
    if not federation.is_over():
        broken.append("the federation is not over")
    broken += [line.line() for line in stage.audit() if not line.passed]
    broken += _commitments(stage, events)
    broken += _money(stage, events)
    broken += _leftovers(stage)
    return Outcome(
        rounds=tuple(s.name.lower() for s in statuses),
        paid=sum(isinstance(e, Paid) for e in events),
        missed=len(stage.excused),
        penalized=sum(isinstance(e, Penalized) for e in events),
        slashed=sum(isinstance(e, AggregatorSlashed) for e in events),
        broken=tuple(broken),
    )


def _commitments(stage: Stage, events: list[Any]) -> list[str]:
    """No second commitment, none whose salt is lost, none unrevealed without a reason."""
    broken = []
    names = {stage.address_of(name): name for name in stage.names}
    for name in stage.names:
        for round_id, sent in stage.lines[name][0].commitments.items():
            if len(sent) > 1:
                broken.append(f"{name} sent {len(sent)} commitments for round {round_id}")
    committed = [(e.round, names[e.participant], e) for e in events if isinstance(e, Committed)]
    for key, count in Counter((r, n) for r, n, _ in committed).items():
        if count > 1:
            broken.append(f"{key} committed {count} times")
    revealed = {(e.round, names[e.participant]) for e in events if isinstance(e, Revealed)}
    for round_id, name, event in committed:
        if event.commitment != _on_disk(stage, name, round_id):
            broken.append(f"{name} cannot open its commitment of round {round_id}")
        if (round_id, name) not in revealed and (round_id, name) not in stage.excused:
            broken.append(f"{name} did not reveal in round {round_id}, and was not away")
    expected = {(n, name) for n in range(1, stage.client().round_count() + 1) for name in names.values()}
    present = {(r, n) for r, n, _ in committed}
    was_out = {(r + 1, n) for r, n in stage.excused}  # out after a penalty, back for the next
    for round_id, name in sorted(expected - present - stage.excused - was_out):
        broken.append(f"{name} did not commit in round {round_id}, and was not away")
    return broken


def _on_disk(stage: Stage, name: str, round_id: int) -> bytes:
    folder = stage.folder / name / "state" / stage.address / f"round-{round_id:04d}"
    prepared = read_json(folder / "prepared.json")
    return compute_commitment(
        stage.address,
        RoundId(round_id),
        stage.address_of(name),
        parse_digest(prepared["root"]),
        parse_digest(prepared["manifest"]),
        prepared["examples"],
        bytes.fromhex(prepared["salt"]),
    )


def _money(stage: Stage, events: list[Any]) -> list[str]:
    """Stakes and bonds are lost by whoever missed a deadline, by nobody else; the rest is back."""
    broken = []
    names = {stage.address_of(name): name for name in stage.names}
    committed = {(e.round, names[e.participant]) for e in events if isinstance(e, Committed)}
    revealed = {(e.round, names[e.participant]) for e in events if isinstance(e, Revealed)}
    penalized = {(e.round, names[e.participant]) for e in events if isinstance(e, Penalized)}
    if penalized != committed - revealed:
        broken.append(f"penalized {penalized}, unrevealed {committed - revealed}")
    slashed = {e.aggregator for e in events if isinstance(e, AggregatorSlashed)}
    due = {stage.aggregator.address} if any(n == LEAD for _, n in stage.excused) else set()
    if slashed != due:
        broken.append(f"slashed {slashed}, late {due}")
    federation = stage.client()
    for name in stage.names:
        credit = federation.credit_of(stage.address_of(name))
        if credit:
            broken.append(f"{name} left {credit / TOKEN:g} tokens of credit")
    for name, wallet in ((LEAD, stage.aggregator), (STANDBY, stage.standby)):
        if federation.aggregator_state(wallet.address) is AggregatorState.BONDED:
            broken.append(f"{name} left its bond")
    if len(statuses := federation.read_events()) and federation.round_count() > ROUNDS:
        broken.append(f"{len(statuses)} events of too many rounds")
    return broken


def _leftovers(stage: Stage) -> list[str]:
    """No role ended by an error that is not the project's own."""
    return [
        f"{path.stem}: {path.read_text().strip().splitlines()[-1]}"
        for path in sorted(stage.folder.glob("*.log"))
        if "Traceback" in path.read_text()
    ]
