"""Everything that a role reports, one dataclass per event.

    report(events.Committed(round=round_id, gas=receipt.gas_used))

Fields are the facts of a line of progress or of the log, in the order in which they are printed; a
fact that is None is left out. An event also carries its logging level, what it does to the metrics
and how the demo's display shows it, so that adding one touches this file and its call site alone.
Events inform; nothing is decided from them.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Final

from protocol.errors import Service
from protocol.types import Address, RoundId, TokenUnits

if TYPE_CHECKING:
    from runtime.metrics import Metrics

_BY_PHASE: Final[dict[str, type["Event"]]] = {}


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened in a role; `phase` are the words that name it in every line."""

    phase: ClassVar[str]
    level: ClassVar[int] = logging.INFO
    style: ClassVar[str] = ""
    """How rich writes it in the demo's display, empty for the default."""
    is_brief: ClassVar[bool] = False
    """Whether it is too frequent or too short-lived for the demo's plain output."""

    def __init_subclass__(cls) -> None:
        _BY_PHASE[cls.phase] = cls

    def facts(self) -> dict[str, Any]:
        """Return the facts that are known, by name, in the order in which they are printed."""
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in named if value is not None}

    def measure(self, metrics: "Metrics") -> None:
        """Enter this event into the metrics of its process."""
        if gas := getattr(self, "gas", None):
            metrics.gas.labels(self.phase).inc(gas)


Report = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Report nothing."""


def parse(phase: str, facts: Mapping[str, Any]) -> Event | None:
    """Return the event that a line tells of; None for what another version may have written."""
    kind = _BY_PHASE.get(phase)
    try:
        return kind(**facts) if kind else None
    except TypeError:  # facts that this version does not know, or that it misses
        return None


# ------------------------------------------------------------------- any role


@dataclass(frozen=True, kw_only=True)
class Starting(Event):
    """A role's process has opened its wallet; the role is known by which address is given."""

    phase = "starting"
    participant: Address | None = None
    aggregator: Address | None = None


@dataclass(frozen=True, kw_only=True)
class Waiting(Event):
    """A failure that is waited out, for `seconds`; `service` is what failed, where it is known."""

    phase = "waiting"
    level = logging.WARNING
    style = "yellow"
    reason: str
    seconds: float
    service: Service | None = None

    def measure(self, metrics: "Metrics") -> None:
        """Count the fault under its service."""
        metrics.faults.labels(self.service or "other").inc()


@dataclass(frozen=True, kw_only=True)
class TransactionTrouble(Event):
    """A transaction is held up, or was displaced by another of the same wallet."""

    phase = "transaction"
    level = logging.WARNING
    style = "yellow"
    reason: str


@dataclass(frozen=True, kw_only=True)
class Failed(Event):
    """A role ended, or a Flower message was not obeyed, for this reason."""

    phase = "failed"
    level = logging.ERROR
    style = "red"
    reason: str


@dataclass(frozen=True, kw_only=True)
class Stopped(Event):
    """A role ended because a signal asked it to."""

    phase = "stopped"


@dataclass(frozen=True, kw_only=True)
class Out(Event):
    """A role has no part any more: a participant after a penalty, an aggregator after a slash."""

    phase = "out"
    reason: str | None = None
    advice: str | None = None


@dataclass(frozen=True, kw_only=True)
class Withdrew(Event):
    """The credit was withdrawn."""

    phase = "withdrew"
    amount: TokenUnits
    gas: int

    def measure(self, metrics: "Metrics") -> None:
        """Add the amount to what this process withdrew."""
        super().measure(metrics)
        metrics.withdrawn.inc(self.amount)


@dataclass(frozen=True, kw_only=True)
class RoundOver(Event):
    """A round ended; a participant also reports what it was paid and why."""

    phase = "round over"
    round: RoundId
    outcome: str
    paid: TokenUnits | None = None
    reason: str | None = None

    def measure(self, metrics: "Metrics") -> None:
        """Count the round under its outcome, and what it credited."""
        metrics.rounds.labels(self.outcome).inc()
        metrics.credited.inc(self.paid or 0)


@dataclass(frozen=True, kw_only=True)
class Evaluated(Event):
    """Held-out loss, nats per token, of the model that stands after `round`."""

    phase = "evaluated"
    round: RoundId
    loss: float
    tokens: int

    def measure(self, metrics: "Metrics") -> None:
        """Set the held-out loss."""
        metrics.loss.labels("held_out").set(self.loss)


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """The federation is over; a participant also reports all that it was paid."""

    phase = "finished"
    paid: int | None = None
    advice: str | None = None


# ---------------------------------------------------------------- participant


@dataclass(frozen=True, kw_only=True)
class Connecting(Event):
    """Flower's SuperNode is started."""

    phase = "connecting"
    superlink: str


@dataclass(frozen=True, kw_only=True)
class Joined(Event):
    """A participant joined: by itself, with the `gas` that took, or in the demo, with its name."""

    phase = "joined"
    participant: Address
    name: str | None = None
    gas: int | None = None


@dataclass(frozen=True, kw_only=True)
class FetchingModel(Event):
    """The model to train from is fetched."""

    phase = "fetching model"
    is_brief = True
    round: RoundId


@dataclass(frozen=True, kw_only=True)
class DataRead(Event):
    """What was read of the data, in examples, and what the sequence length cuts."""

    phase = "data"
    rows: int
    examples: int
    dropped: Mapping[str, int]
    duplicates: int
    in_held_out: int
    training: int
    validation: int
    truncated: int
    left_out: int


@dataclass(frozen=True, kw_only=True)
class Training(Event):
    """One step of training."""

    phase = "training"
    is_brief = True
    round: RoundId
    step: int
    steps: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class Validated(Event):
    """Loss on the participant's validation data of the global model and of its own update."""

    phase = "validated"
    round: RoundId
    model: float
    own: float
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Trained(Event):
    """An update is on disk; `loss` is the mean of its steps, nats per token."""

    phase = "trained"
    round: RoundId
    loss: float
    examples: int

    def measure(self, metrics: "Metrics") -> None:
        """Set the training loss."""
        metrics.loss.labels("training").set(self.loss)


@dataclass(frozen=True, kw_only=True)
class Committed(Event):
    """The commitment is on chain."""

    phase = "committed"
    round: RoundId
    gas: int


@dataclass(frozen=True, kw_only=True)
class Pinned(Event):
    """The update's files are in the content store."""

    phase = "pinned"
    round: RoundId
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Revealed(Event):
    """The commitment is opened on chain."""

    phase = "revealed"
    round: RoundId
    gas: int


@dataclass(frozen=True, kw_only=True)
class TooLate(Event):
    """A phase ended before the transaction that it asks for was mined."""

    phase = "too late"
    round: RoundId
    reason: str


@dataclass(frozen=True, kw_only=True)
class NothingToDo(Event):
    """The round does not ask this participant."""

    phase = "nothing to do"
    round: RoundId
    phase_now: str


@dataclass(frozen=True, kw_only=True)
class WaitingForConfirmations(Event):
    """What the next step rests on is mined, but not yet deep enough."""

    phase = "waiting for confirmations"
    round: RoundId


@dataclass(frozen=True, kw_only=True)
class Leaving(Event):
    """The stake is locked until `until`, seconds since 1970 in UTC."""

    phase = "leaving"
    until: int


@dataclass(frozen=True, kw_only=True)
class Left(Event):
    """The participant is no member any more."""

    phase = "left"
    advice: str


# ----------------------------------------------------------------- aggregator


@dataclass(frozen=True, kw_only=True)
class WaitingForParticipants(Event):
    """Too few participants have joined for a round."""

    phase = "waiting for participants"
    active: int
    wanted: int


@dataclass(frozen=True, kw_only=True)
class Opened(Event):
    """A round was opened."""

    phase = "opened"
    round: RoundId
    gas: int


@dataclass(frozen=True, kw_only=True)
class ReplacedIdleAggregator(Event):
    """The active aggregator opened no round in time; `lead` takes its place."""

    phase = "replaced an idle aggregator"
    lead: Address


@dataclass(frozen=True, kw_only=True)
class AskingToCommit(Event):
    """Participants are asked to commit."""

    phase = "asking to commit"
    is_brief = True
    round: RoundId


@dataclass(frozen=True, kw_only=True)
class AskingToReveal(Event):
    """Participants are asked to reveal."""

    phase = "asking to reveal"
    is_brief = True
    round: RoundId


@dataclass(frozen=True, kw_only=True)
class Refused(Event):
    """A SuperNode answered a message with an error."""

    phase = "refused"
    level = logging.WARNING
    style = "yellow"
    node: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Announcing(Event):
    """What the round takes of this machine, and what is free, in bytes."""

    phase = "announcing"
    round: RoundId
    disk_bytes: int
    disk_free: int
    memory_bytes: int
    memory_free: int


@dataclass(frozen=True, kw_only=True)
class Screening(Event):
    """The revealed updates are screened."""

    phase = "screening"
    round: RoundId
    updates: int


@dataclass(frozen=True, kw_only=True)
class Accepted(Event):
    """An update passed every check; `check` is 0."""

    phase = "accepted"
    round: RoundId
    participant: Address
    check: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Rejected(Event):
    """An update failed the numbered check (docs/protocol.md §6)."""

    phase = "rejected"
    style = "yellow"
    round: RoundId
    participant: Address
    check: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Averaging(Event):
    """The accepted updates are averaged."""

    phase = "averaging"
    round: RoundId
    updates: int


@dataclass(frozen=True, kw_only=True)
class AggregationError(Event):
    """How far averaging A and B is from averaging BA: in all, and for the weight it is most for."""

    phase = "aggregation error"
    round: RoundId
    total: float
    largest: float
    weight: str


@dataclass(frozen=True, kw_only=True)
class Proposed(Event):
    """A model was proposed."""

    phase = "proposed"
    round: RoundId
    gas: int
    model_root: str


@dataclass(frozen=True, kw_only=True)
class Penalized(Event):
    """A participant paid the penalty for a commitment that it did not open."""

    phase = "penalized"
    round: RoundId
    participant: Address


@dataclass(frozen=True, kw_only=True)
class LeafPosted(Event):
    """A leaf request was answered."""

    phase = "posted leaf"
    round: RoundId
    root: str
    leaf: int
    gas: int


@dataclass(frozen=True, kw_only=True)
class LeafNotPosted(Event):
    """A leaf request could not be answered; reported once, tried again at every look."""

    phase = "leaf not posted"
    round: RoundId
    root: str
    leaf: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class LeafRequestSettled(Event):
    """A leaf request that nobody answered in time was settled."""

    phase = "leaf request settled"
    round: RoundId
    root: str
    leaf: int


@dataclass(frozen=True, kw_only=True)
class Finalized(Event):
    """The challenge window passed and the round was settled."""

    phase = "finalized"
    round: RoundId
    gas: int


@dataclass(frozen=True, kw_only=True)
class Unbonded(Event):
    """The aggregator took its bond back."""

    phase = "unbonded"
    gas: int


@dataclass(frozen=True, kw_only=True)
class Evaluating(Event):
    """Every SuperNode is asked for the loss on a share of the held-out set."""

    phase = "evaluating"
    round: RoundId


@dataclass(frozen=True, kw_only=True)
class NotEvaluated(Event):
    """Not every SuperNode that was asked for a loss answered."""

    phase = "not evaluated"
    round: RoundId
    answered: int
    asked: int


# ----------------------------------------------------------------------- demo


@dataclass(frozen=True, kw_only=True)
class Started(Event):
    """A new run."""

    phase = "started"
    run: str


@dataclass(frozen=True, kw_only=True)
class Resumed(Event):
    """A run that was interrupted goes on."""

    phase = "resumed"
    run: str


@dataclass(frozen=True, kw_only=True)
class PreparingModel(Event):
    """The initial adapter is made."""

    phase = "preparing the model"
    source: str


@dataclass(frozen=True, kw_only=True)
class DeployingContract(Event):
    """The contract is deployed for a model of so many layers and bytes."""

    phase = "deploying the contract"
    layers: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Auditing(Event):
    """The audit is started."""

    phase = "auditing"


@dataclass(frozen=True, kw_only=True)
class Audited(Event):
    """The number of checks that the audit made, and of those that failed."""

    phase = "audited"
    checks: int
    failed: int
