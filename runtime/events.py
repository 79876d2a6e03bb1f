"""All events that roles report, one dataclass per event.

    report(events.Committed(round=round_id, gas=receipt.gas_used))

The fields are the facts of a line of progress or of the log, in the order in which they are
printed; facts that are None are omitted. An event also defines its logging level, its effect on the
metrics, its figures for trackers and its style in the demo's display, so that adding one changes
only this file and its call site.
Events inform; nothing is decided from them.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Final

from protocol.errors import Service
from protocol.types import FULL_BASIS_POINTS, TOKEN_DECIMALS, Address, RoundId, TokenUnits

if TYPE_CHECKING:
    from runtime.metrics import Metrics

# To read lines back that another process wrote.
_BY_PHASE: Final[dict[str, type["Event"]]] = {}


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened in a role; `phase` names it in every line."""

    phase: ClassVar[str]
    level: ClassVar[int] = logging.INFO
    style: ClassVar[str] = ""
    """The style of rich in the demo's display; empty for the default."""
    is_brief: ClassVar[bool] = False
    """Whether the event is too frequent or short-lived for the demo's plain output."""

    def __init_subclass__(cls) -> None:
        _BY_PHASE[cls.phase] = cls

    def facts(self) -> dict[str, Any]:
        """Return the known facts by name, in the order in which they are printed."""
        named = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in named if value is not None}

    def measure(self, metrics: "Metrics") -> None:
        """Add this event to the metrics of its process."""
        # Every event about a transaction has this field, so none has to count its gas itself.
        if gas := getattr(self, "gas", None):
            metrics.gas.labels(self.phase).inc(gas)

    def figures(self) -> dict[str, tuple[int, float]]:
        """Return what a tracker plots of this event: by name, the step and the value.

        A step is a round, but for what changes within one.
        """
        gas, number = getattr(self, "gas", None), getattr(self, "round", None)
        name = self.phase.replace(" ", "_")
        return {f"gas/{name}": (number, gas)} if gas and number is not None else {}


Report = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Report nothing."""


def parse(phase: str, facts: Mapping[str, Any]) -> Event | None:
    """Return the event of a line; None for an event that this version does not know."""
    kind = _BY_PHASE.get(phase)
    try:
        return kind(**facts) if kind else None
    except TypeError:  # unknown or missing facts: a run may be older or newer than the program
        return None


# ------------------------------------------------------------------- any role


@dataclass(frozen=True, kw_only=True)
class Starting(Event):
    """A role's process has opened its wallet; the address that is given names the role."""

    phase = "starting"
    participant: Address | None = None
    aggregator: Address | None = None


@dataclass(frozen=True, kw_only=True)
class Waiting(Event):
    """The role waits `seconds` after a failure of `service`, if that is known."""

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
class FeeLimit(Event):
    """The most that the role pays for a unit of gas, in wei, as it begins."""

    phase = "fee limit"
    wei: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class TransactionTrouble(Event):
    """A transaction is delayed, or was replaced by another of the same wallet."""

    phase = "transaction"
    level = logging.WARNING
    style = "yellow"
    reason: str


@dataclass(frozen=True, kw_only=True)
class Failed(Event):
    """A role ended, or a Flower message could not be handled, for this reason."""

    phase = "failed"
    level = logging.ERROR
    style = "red"
    reason: str


@dataclass(frozen=True, kw_only=True)
class Stopped(Event):
    """A role ended because of a signal."""

    phase = "stopped"


@dataclass(frozen=True, kw_only=True)
class Out(Event):
    """A role is excluded: a participant after a penalty, an aggregator after a slash."""

    phase = "out"
    reason: str | None = None
    advice: str | None = None


@dataclass(frozen=True, kw_only=True)
class PlacesAnnounced(Event):
    """The chain says where this role's blocks can be read; `places` one after the other."""

    phase = "announced where blocks are"
    places: str
    gas: int


@dataclass(frozen=True, kw_only=True)
class PlacesWait(Event):
    """The role's blocks are elsewhere than the chain says, which it corrects from `until` on.

    In seconds since 1970 in UTC. Whoever does not know the role yet looks at what `stands`.
    """

    phase = "other places announced"
    level = logging.WARNING
    places: str
    stands: str
    until: int
    advice: str


@dataclass(frozen=True, kw_only=True)
class PlaceAnswers(Event):
    """A place that a member announced was asked and answered, after so many seconds."""

    phase = "announced place answers"
    member: Address
    place: str
    seconds: float

    def measure(self, metrics: "Metrics") -> None:
        """Count the answer."""
        metrics.places.labels("yes").inc()


@dataclass(frozen=True, kw_only=True)
class PlaceFails(Event):
    """A place that a member announced does not answer here; its member may want to know."""

    phase = "announced place fails"
    level = logging.WARNING
    member: Address
    place: str
    reason: str

    def measure(self, metrics: "Metrics") -> None:
        """Count the failure."""
        metrics.places.labels("no").inc()


@dataclass(frozen=True, kw_only=True)
class OwnGatewayFails(Event):
    """The gateway that the role announces does not show its store, or shows more than that."""

    phase = "own gateway fails"
    level = logging.WARNING
    reason: str


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

    def figures(self) -> dict[str, tuple[int, float]]:
        """Return what the round paid, in tokens."""
        return {} if self.paid is None else {"paid": (self.round, self.paid / 10**TOKEN_DECIMALS)}


@dataclass(frozen=True, kw_only=True)
class Evaluated(Event):
    """Held-out loss, in nats per token, of the global model after `round`."""

    phase = "evaluated"
    round: RoundId
    loss: float
    tokens: int

    def measure(self, metrics: "Metrics") -> None:
        """Set the held-out loss."""
        metrics.loss.labels("held_out").set(self.loss)

    def figures(self) -> dict[str, tuple[int, float]]:
        """Return the held-out loss."""
        return {"loss/held_out": (self.round, self.loss)}


@dataclass(frozen=True, kw_only=True)
class SeedFixed(Event):
    """The participants to be asked were drawn."""

    phase = "seed fixed"
    round: RoundId
    gas: int


@dataclass(frozen=True, kw_only=True)
class Finished(Event):
    """The federation is over; a participant also reports the sum that it was paid."""

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
    """A participant joined. It reports `gas` itself; the demo reports it with its name."""

    phase = "joined"
    participant: Address
    name: str | None = None
    gas: int | None = None


@dataclass(frozen=True, kw_only=True)
class Uninvited(Event):
    """The federation admits by invitation, and this participant has none."""

    phase = "uninvited"
    level = logging.WARNING
    style = "yellow"
    advice: str


@dataclass(frozen=True, kw_only=True)
class RoundFull(Event):
    """Others have taken all of the round's seats; nothing is lost."""

    phase = "round full"
    round: RoundId


@dataclass(frozen=True, kw_only=True)
class FetchingModel(Event):
    """The model to train from is fetched."""

    phase = "fetching model"
    is_brief = True
    round: RoundId


@dataclass(frozen=True, kw_only=True)
class DataRead(Event):
    """What was read of the data, in examples, and how many the sequence length affects."""

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
    repaired: int = 0


@dataclass(frozen=True, kw_only=True)
class DataCut(Event):
    """Many examples are longer than the federation's sequence length: their answers lack an end."""

    phase = "data cut"
    level = logging.WARNING
    style = "yellow"
    truncated: int
    left_out: int
    of: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Training(Event):
    """One step of training."""

    phase = "training"
    is_brief = True
    round: RoundId
    step: int
    steps: int
    loss: float

    def figures(self) -> dict[str, tuple[int, float]]:
        """Return the loss of the step, counted through all rounds."""
        return {"loss/step": ((self.round - 1) * self.steps + self.step, self.loss)}


@dataclass(frozen=True, kw_only=True)
class Encoded(Event):
    """The update was rounded to steps of 2^-`grid`.

    `clipped_share` is the share of its values that were held at the largest step, `relative_error`
    the length of what rounding took over the length of the difference.
    """

    phase = "encoded"
    is_brief = True
    round: RoundId
    grid: int
    clipped_share: float
    relative_error: float

    def figures(self) -> dict[str, tuple[int, float]]:
        """Return what encoding took."""
        return {
            "update/clipped_share": (self.round, self.clipped_share),
            "update/relative_error": (self.round, self.relative_error),
        }


@dataclass(frozen=True, kw_only=True)
class CarriedLost(Event):
    """What rounding took from the update of `of_round` is gone: this round starts without it."""

    phase = "carried lost"
    level = logging.WARNING
    style = "yellow"
    round: RoundId
    of_round: RoundId
    reason: str


@dataclass(frozen=True, kw_only=True)
class Validated(Event):
    """Loss of the global model and of the participant's own update on its validation data."""

    phase = "validated"
    round: RoundId
    model: float
    own: float
    tokens: int

    def figures(self) -> dict[str, tuple[int, float]]:
        """Return both losses on the participant's own validation data."""
        return {
            "loss/validation_of_the_model": (self.round, self.model),
            "loss/validation_of_the_update": (self.round, self.own),
        }


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

    def figures(self) -> dict[str, tuple[int, float]]:
        """Return the training loss."""
        return {"loss/training": (self.round, self.loss)}


@dataclass(frozen=True, kw_only=True)
class PrivacySpent(Event):
    """What the rounds so far may have told of a record, of what all together may tell.

    `round` is about to be trained, with `noise`, and is counted already; None as the role begins.
    """

    phase = "privacy"
    round: RoundId | None = None
    epsilon: float
    of: float
    delta: float
    noise: float | None = None

    def measure(self, metrics: "Metrics") -> None:
        """Set what is spent, and the budget."""
        metrics.epsilon.labels("spent").set(self.epsilon)
        metrics.epsilon.labels("budget").set(self.of)

    def figures(self) -> dict[str, tuple[int, float]]:
        """Return what is spent so far."""
        return {} if self.round is None else {"privacy/epsilon": (self.round, self.epsilon)}


@dataclass(frozen=True, kw_only=True)
class PrivacyAssumed(Event):
    """The wallet committed to rounds that the state folder does not know: they count as spent."""

    phase = "privacy assumed"
    level = logging.WARNING
    style = "yellow"
    rounds: int
    first: RoundId
    last: RoundId


@dataclass(frozen=True, kw_only=True)
class PrivacyUsedUp(Event):
    """Another round would spend more than the privacy budget: nothing is trained."""

    phase = "privacy used up"
    level = logging.WARNING
    style = "yellow"
    round: RoundId
    reason: str


@dataclass(frozen=True, kw_only=True)
class TrainedBare(Event):
    """An update was trained before records were protected, and is trained again with noise."""

    phase = "trained again"
    round: RoundId


@dataclass(frozen=True, kw_only=True)
class WalletElsewhere(Event):
    """The wallet has committed to a round, and not from this state folder."""

    phase = "wallet elsewhere"
    level = logging.WARNING
    style = "yellow"
    round: RoundId
    reason: str


@dataclass(frozen=True, kw_only=True)
class TrainingGivenUp(Event):
    """Training failed, and another try in this round would not help; nothing was committed."""

    phase = "training given up"
    level = logging.WARNING
    style = "yellow"
    round: RoundId
    reason: str


@dataclass(frozen=True, kw_only=True)
class Committed(Event):
    """The commitment is on the chain."""

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
    """The commitment was opened on the chain."""

    phase = "revealed"
    round: RoundId
    gas: int


@dataclass(frozen=True, kw_only=True)
class KeepsSecrets(Event):
    """Nothing is opened for the set that was sealed, for now or for good."""

    phase = "keeping secrets"
    round: RoundId
    reason: str


@dataclass(frozen=True, kw_only=True)
class SecretsPosted(Event):
    """The masks of our update can be taken from the sum; of the update nothing else is told."""

    phase = "unmasked"
    round: RoundId
    gas: int


@dataclass(frozen=True, kw_only=True)
class SharesGiven(Event):
    """Shares of a silent member's secrets are on the chain."""

    phase = "assisted"
    round: RoundId
    silent: Address
    gas: int


@dataclass(frozen=True, kw_only=True)
class ObjectedTo(Event):
    """The round's sum cannot be that of honest updates, and the chain was told so."""

    phase = "objected"
    level = logging.WARNING
    style = "yellow"
    round: RoundId
    reason: str


@dataclass(frozen=True, kw_only=True)
class MasksAccounted(Event):
    """The participant told of its masks, in a refused set, what shows that it was honest."""

    phase = "masks accounted"
    round: RoundId
    gas: int


@dataclass(frozen=True, kw_only=True)
class SumUnchecked(Event):
    """The round's sum could not be looked at while objecting was possible."""

    phase = "sum unchecked"
    level = logging.WARNING
    style = "yellow"
    round: RoundId
    reason: str


@dataclass(frozen=True, kw_only=True)
class SetSealed(Event):
    """The set of masked updates that are summed is fixed; with none the round ended."""

    phase = "sealed"
    round: RoundId
    members: int
    revealed: int
    gas: int


@dataclass(frozen=True, kw_only=True)
class SketchesDrawn(Event):
    """The vectors of the round's sketches are drawn."""

    phase = "sketches drawn"
    round: RoundId
    gas: int


@dataclass(frozen=True, kw_only=True)
class Recovered(Event):
    """The secrets of a silent member were put together from shares and posted."""

    phase = "recovered"
    round: RoundId
    participant: Address
    gas: int


@dataclass(frozen=True, kw_only=True)
class RoundVoided(Event):
    """The round's sum cannot be opened or is objected to: the model stays."""

    phase = "voided"
    level = logging.WARNING
    style = "yellow"
    round: RoundId
    gas: int


@dataclass(frozen=True, kw_only=True)
class TooLate(Event):
    """A phase ended before the participant's transaction was mined."""

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
    """The block that the next step depends on is not deep enough yet."""

    phase = "waiting for confirmations"
    round: RoundId


@dataclass(frozen=True, kw_only=True)
class Leaving(Event):
    """The stake is locked until `until`, seconds since 1970 in UTC."""

    phase = "leaving"
    until: int


@dataclass(frozen=True, kw_only=True)
class Left(Event):
    """The participant is no longer a member."""

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
class WaitingForEscrow(Event):
    """The escrow does not hold the cost of a full round, both in token units."""

    phase = "waiting for escrow"
    level = logging.WARNING
    style = "yellow"
    escrow: TokenUnits
    round_cost: TokenUnits


@dataclass(frozen=True, kw_only=True)
class SeatFreed(Event):
    """A participant lost its seat because it missed the rounds that asked it."""

    phase = "seat freed"
    participant: Address
    missed: int
    gas: int


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
class AskingToUnmask(Event):
    """Members of the set are asked for what the sum needs."""

    phase = "asking to unmask"
    is_brief = True
    round: RoundId


@dataclass(frozen=True, kw_only=True)
class NotRecovered(Event):
    """The secrets of a silent member cannot be put together."""

    phase = "not recovered"
    level = logging.WARNING
    style = "yellow"
    round: RoundId
    reason: str


@dataclass(frozen=True, kw_only=True)
class SumDoubted(Event):
    """The round's sum cannot be that of honest updates; its members may object to it."""

    phase = "sum doubted"
    level = logging.WARNING
    style = "yellow"
    round: RoundId
    reason: str


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
    """What the round needs of this machine, and what is free, in bytes."""

    phase = "announcing"
    round: RoundId
    disk_bytes: int
    disk_free: int
    memory_bytes: int
    memory_free: int


@dataclass(frozen=True, kw_only=True)
class Screening(Event):
    """The revealed updates are being screened."""

    phase = "screening"
    round: RoundId
    updates: int

    def figures(self) -> dict[str, tuple[int, float]]:
        """Return how many updates were revealed."""
        return {"updates/revealed": (self.round, self.updates)}


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
class NotCompared(Event):
    """Something that check 12 compares updates with is unavailable; it was left out."""

    phase = "not compared"
    style = "yellow"
    round: RoundId
    reason: str


@dataclass(frozen=True, kw_only=True)
class Scoring(Event):
    """The help of the updates that passed is being measured."""

    phase = "scoring"
    round: RoundId
    updates: int


@dataclass(frozen=True, kw_only=True)
class Scored(Event):
    """What an update earns, in basis points of its price, and why."""

    phase = "scored"
    round: RoundId
    participant: Address
    score: int
    reason: str

    def figures(self) -> dict[str, tuple[int, float]]:
        """Return the share of its price that the update earns."""
        return {f"score/{self.participant}": (self.round, self.score / FULL_BASIS_POINTS)}


@dataclass(frozen=True, kw_only=True)
class NotScored(Event):
    """No help could be measured, so that every accepted update earns its full price."""

    phase = "not scored"
    level = logging.WARNING
    style = "yellow"
    round: RoundId
    reason: str


@dataclass(frozen=True, kw_only=True)
class Averaging(Event):
    """The accepted updates are being averaged."""

    phase = "averaging"
    round: RoundId
    updates: int

    def figures(self) -> dict[str, tuple[int, float]]:
        """Return how many updates were accepted."""
        return {"updates/accepted": (self.round, self.updates)}


@dataclass(frozen=True, kw_only=True)
class AggregationError(Event):
    """How far averaging A and B is from averaging BA: in total, and for the worst weight."""

    phase = "aggregation error"
    round: RoundId
    total: float
    largest: float
    weight: str

    def figures(self) -> dict[str, tuple[int, float]]:
        """Return the error in total."""
        return {"aggregation_error": (self.round, self.total)}


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
    """A leaf request could not be answered yet; reported once, tried again at every poll."""

    phase = "leaf not posted"
    round: RoundId
    root: str
    leaf: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class LeafRequestSettled(Event):
    """An overdue leaf request was settled."""

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
class NotRemoved(Event):
    """Blocks that nobody needs any more stay in the store for now: it did not remove them."""

    phase = "not removed"
    round: RoundId
    reason: str


@dataclass(frozen=True, kw_only=True)
class WaitingForStore(Event):
    """Updates are unreachable and our own store is at fault: nobody is rejected for that yet."""

    phase = "waiting for the own store"
    level = logging.WARNING
    round: RoundId
    reason: str


@dataclass(frozen=True, kw_only=True)
class NotKept(Event):
    """The store does not take what others will ask for: accepted updates, or (0) the founding."""

    phase = "not kept"
    level = logging.WARNING
    round: RoundId
    reason: str


@dataclass(frozen=True, kw_only=True)
class Unbonded(Event):
    """The aggregator took its bond back."""

    phase = "unbonded"
    gas: int


@dataclass(frozen=True, kw_only=True)
class Evaluating(Event):
    """Every SuperNode is asked for the loss on its share of the held-out set."""

    phase = "evaluating"
    round: RoundId


@dataclass(frozen=True, kw_only=True)
class NotEvaluated(Event):
    """Some SuperNodes did not answer, so there is no held-out loss."""

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
    """An interrupted run continues."""

    phase = "resumed"
    run: str


@dataclass(frozen=True, kw_only=True)
class PreparingModel(Event):
    """The initial adapter is being made."""

    phase = "preparing the model"
    source: str


@dataclass(frozen=True, kw_only=True)
class TriedOut(Event):
    """One round was trained on the public rows; losses are in nats per token."""

    phase = "tried out"
    grid: int
    min_norm: int
    loss_before: float
    loss_after: float
    relative_error: float


@dataclass(frozen=True, kw_only=True)
class DeployingContract(Event):
    """The contract is being deployed for a model of so many layers and bytes."""

    phase = "deploying the contract"
    layers: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Answered(Event):
    """What the model after `round` answers to the configuration's question; 0: the base model."""

    phase = "answered"
    round: RoundId
    answer: str


@dataclass(frozen=True, kw_only=True)
class Auditing(Event):
    """The audit has started."""

    phase = "auditing"


@dataclass(frozen=True, kw_only=True)
class Audited(Event):
    """Audit results: the number of checks, and of those that failed."""

    phase = "audited"
    checks: int
    failed: int
