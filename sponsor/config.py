"""The configuration of a federation: one TOML file, read whole and checked before anything starts.

configs/demo.toml explains every key. Paths in it are relative to the file itself.
"""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from protocol.average import MAX_TOTAL_WEIGHT
from protocol.canonical import faults_of
from protocol.encoding import FRACTION_BITS
from protocol.errors import Misconfigured
from protocol.masking import MAX_PARTICIPANTS, MIN_PARTICIPANTS
from protocol.scoring import to_millionths
from protocol.spec import Adapter, HeldOutScoring, Quantization, RoundSchedule
from protocol.text import parse_toml
from protocol.types import TOKEN_DECIMALS, TokenUnits

LONGEST_OPEN_DAYS: Final = 5 * 365
"""The contract refuses a closing date more than five years ahead."""

Seconds = Annotated[int, Field(ge=0, le=30 * 86_400)]  # the contract's limit of a window
Positive = Annotated[int, Field(ge=1)]
Tokens = Annotated[float, Field(ge=0, le=1e12)]


class Section(BaseModel):
    """A table of the file. Unknown keys are refused, since most are typing errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelSection(Section):
    """The base model, and how long its answers may be."""

    source: str
    answer_tokens: Positive = 64
    template: Literal["chat", "vicuna", "alpaca"] = "chat"


class TrainingSection(Section):
    """What a participant does in one round; see protocol.spec.Training."""

    learning_rate: Annotated[float, Field(gt=0)]
    batch_size: Positive
    steps: Positive
    sequence_length: Positive
    scheduler: Literal["constant", "cosine", "linear"] = "constant"
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    over_rounds: RoundSchedule | None = None
    proximal_mu: Annotated[float, Field(ge=0)] = 0.0
    padding_side: Literal["right", "left"] = "right"
    gradient_checkpointing: bool = False


class FieldsSection(Section):
    """What the fields of a row are called; without any, well-known names are tried."""

    question: str | None = None
    context: str | None = None
    answer: str | None = None
    messages: str | None = None


class PartitionSection(Section):
    """How one data set is shared out; the part of `field` before `until` is an example's group."""

    kind: Literal["iid", "dirichlet", "field"] = "iid"
    field: str | None = None
    until: str | None = None
    alpha: Annotated[float, Field(gt=0)] = 0.5
    smallest: Positive = 10

    @model_validator(mode="after")
    def _has_a_field(self) -> Self:
        if self.kind != "iid" and self.field is None:
            raise ValueError(f"partition {self.kind} needs the field to group by")
        return self


class DataSection(Section):
    """The participants' private data and the public held-out file.

    Either one file per participant, by name, or one `source` to share among `share_among` of them;
    the held-out set is a file, or the share `held_out_share` of that source.
    """

    held_out: Path | None = None
    source: str | None = None
    fields: FieldsSection = FieldsSection()
    encoding: str | None = None
    partition: PartitionSection = PartitionSection()
    held_out_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    question: Annotated[str, Field(min_length=1)] | None = None
    share_among: Annotated[int, Field(ge=1, le=128)] | None = None
    participants: Annotated[dict[str, Path], Field(max_length=128)] = {}

    @model_validator(mode="after")
    def _is_one_form_or_the_other(self) -> Self:
        # Half of one form would be completed by a guess, and the held-out set goes into the spec.
        if (self.source is None) != (self.share_among is None):
            raise ValueError("give source (or --data) and share_among together")
        if self.source is not None and self.participants:
            raise ValueError("give a file for each participant or a source, not both")
        if self.held_out is None and (self.source is None or self.held_out_share is None):
            raise ValueError("give held_out, or held_out_share with a source")
        if self.held_out is not None and self.held_out_share is not None:
            raise ValueError("give held_out or held_out_share, not both")
        return self

    @property
    def names(self) -> list[str]:
        """The participants' names."""
        if self.share_among is None:
            return list(self.participants)
        return [f"participant-{number}" for number in range(1, self.share_among + 1)]

    def located(self, folder: Path) -> "DataSection":
        """Return this section with its paths, relative to `folder`, made absolute."""
        # A name on the hub is no path; everything else is relative to the file that says it.
        changes: dict[str, object] = {}
        if self.held_out is not None:
            changes["held_out"] = folder / self.held_out
        changes["participants"] = {n: folder / file for n, file in self.participants.items()}
        if self.source is not None and not self.source.startswith("hub:"):
            changes["source"] = str(folder / Path(self.source).expanduser())
        return self.model_copy(update=changes)

    def local_files(self) -> list[Path]:
        """Return every file that must exist."""
        is_file = self.source is not None and not self.source.startswith("hub:")
        files = [*self.participants.values(), *([Path(str(self.source))] if is_file else [])]
        return [self.held_out, *files] if self.held_out else files


class EncodingSection(Section):
    """The grid of the updates (docs/protocol.md §2); without `grid_bits` the trial chooses it."""

    grid_bits: Annotated[int, Field(ge=0, le=FRACTION_BITS)] | None = None
    grid_every: Annotated[int, Field(ge=0, lt=2**32)] = 0


class ScreeningSection(Section):
    """The limits of an update (docs/protocol.md §6).

    Without `min_norm` the trial sets it, and `max_update_norm` where updates are masked.
    """

    min_norm: Positive | None = None
    max_update_norm: Annotated[float, Field(gt=0)] | None = None


class SeatsSection(Section):
    """Who takes part in how many rounds.

    About `round_target` of the active participants are asked each round, and `round_seats` of them
    at most can commit. A seat that missed `max_missed` rounds in a row can be freed by anybody.
    """

    rounds: Annotated[int, Field(ge=1, lt=2**32)]
    max_participants: Annotated[int, Field(ge=1, le=512)] = 128
    min_participants: Annotated[int, Field(ge=1, le=512)] = 1
    round_target: Annotated[int, Field(ge=1, le=512)] = 40
    round_seats: Annotated[int, Field(ge=1, le=64)] = 64
    max_missed: Annotated[int, Field(ge=1, le=255)] = 3
    by_invitation: bool = False

    @model_validator(mode="after")
    def _can_begin(self) -> Self:
        if self.min_participants > self.max_participants:
            raise ValueError("min_participants must not be above max_participants")
        return self


class MoneySection(Section):
    """What is paid and held, in whole tokens."""

    update_reward: Tokens
    aggregator_fee: Tokens
    participant_stake: Tokens
    missed_reveal_penalty: Tokens
    aggregator_bond: Tokens
    availability_deposit: Tokens = 0.0

    @model_validator(mode="after")
    def _stake_covers_the_penalty(self) -> Self:
        if self.missed_reveal_penalty > self.participant_stake:
            raise ValueError("missed_reveal_penalty must not be above participant_stake")
        return self


class WindowsSection(Section):
    """The phases of a round, in seconds; `response_seconds` 0 allows no leaf requests.

    Seal, unmask and assist are phases of masked rounds, and count for nothing in clear ones.
    """

    commit_seconds: Seconds
    reveal_seconds: Seconds
    seal_seconds: Seconds = 0
    unmask_seconds: Seconds = 0
    assist_seconds: Seconds = 0
    propose_seconds: Seconds
    challenge_seconds: Seconds
    response_seconds: Seconds = 0
    unbonding_seconds: Seconds
    open_days: Annotated[int, Field(ge=1, le=LONGEST_OPEN_DAYS)] = 30

    @model_validator(mode="after")
    def _windows_fit(self) -> Self:
        # The contract refuses both; here it costs no gas, and the message names the key.
        if self.response_seconds and self.challenge_seconds < 3 * self.response_seconds:
            raise ValueError("response_seconds may be a third of challenge_seconds at most")
        masked = self.seal_seconds + self.unmask_seconds + self.assist_seconds
        phases = self.commit_seconds + self.reveal_seconds + masked + self.propose_seconds
        if self.unbonding_seconds < phases:
            raise ValueError(
                f"unbonding_seconds must be at least the phases from commit to propose, {phases:,}"
            )
        return self


class RulesSection(Section):
    """How updates are published and paid for (docs/protocol.md §5 and §9).

    `min_set`, the updates without which no sum is opened, has an effect with `privacy` masked only,
    `score_gain` and `loss_tolerance`, in nats, with `scoring` heldOut only.
    """

    privacy: Literal["clear", "masked"] = "clear"
    min_set: Annotated[int, Field(ge=MIN_PARTICIPANTS, le=MAX_PARTICIPANTS)] = MIN_PARTICIPANTS
    scoring: Literal["equal", "heldOut"] = "equal"
    score_gain: Literal["whole", "new"] = "new"
    loss_tolerance: Annotated[float, Field(ge=0, le=1)] = 0.0001

    @model_validator(mode="before")
    @classmethod
    def _is_private_or_paid_by_help(cls, given: Any) -> Any:
        if isinstance(given, dict):
            asked = given.get("privacy"), given.get("scoring")
            if asked == ("masked", "heldOut"):
                raise ValueError(
                    "privacy masked and scoring heldOut exclude each other: what an update helps"
                    " is measured on the update itself, which a mask hides"
                )
        return given

    @property
    def held_out(self) -> HeldOutScoring | None:
        """How help is measured; None where it is not."""
        if self.scoring == "equal":
            return None
        return HeldOutScoring(gain=self.score_gain, tolerance=to_millionths(self.loss_tolerance))


class AggregationSection(Section):
    """How the aggregator computes the mean; the root is the same in both modes."""

    mode: Literal["layerwise", "all_at_once"] = "layerwise"


class SimulationSection(Section):
    """How many participants train at the same time on this machine, with how many threads each."""

    processes: Positive = 1
    threads: Positive = 2


class Config(Section):
    """A federation as its operator describes it."""

    model: ModelSection
    quantization: Quantization
    adapter: Adapter
    encoding: EncodingSection = EncodingSection()
    training: TrainingSection
    screening: ScreeningSection = ScreeningSection()
    data: DataSection
    seats: SeatsSection
    money: MoneySection
    windows: WindowsSection
    rules: RulesSection = RulesSection()
    aggregation: AggregationSection = AggregationSection()
    simulation: SimulationSection = SimulationSection()

    @property
    def weight_cap(self) -> int:
        """The largest weight of an update: the most examples that a round of training can read."""
        return self.training.steps * self.training.batch_size

    @field_validator("adapter", mode="before")
    @classmethod
    def _all_linear_is_a_list(cls, adapter: object) -> object:
        # As peft has it: one word in place of a list.
        if isinstance(adapter, dict) and isinstance(adapter.get("targets"), str):
            return {**adapter, "targets": [adapter["targets"]]}
        return adapter

    @model_validator(mode="after")
    def _sections_fit(self) -> Self:
        # docs/protocol.md §1 and §11; the contract refuses both.
        if self.seats.round_seats * self.weight_cap > MAX_TOTAL_WEIGHT:
            raise ValueError(
                f"round_seats * steps * batch_size must be at most {MAX_TOTAL_WEIGHT:,}"
            )
        if self.windows.response_seconds and token_units(self.money.availability_deposit) == 0:
            raise ValueError("availability_deposit must be above 0, or response_seconds 0")
        self._check_privacy()
        return self

    def _check_privacy(self) -> None:
        windows, seats, rules = self.windows, self.seats, self.rules
        phases = {
            "seal_seconds": windows.seal_seconds,
            "unmask_seconds": windows.unmask_seconds,
            "assist_seconds": windows.assist_seconds,
        }
        if rules.privacy == "clear":
            return
        if missing := [name for name, seconds in phases.items() if not seconds]:
            raise ValueError(f"privacy masked takes {missing[0]}")
        if seats.round_seats > MAX_PARTICIPANTS:
            raise ValueError(f"round_seats is at most {MAX_PARTICIPANTS} where privacy is masked")
        if not rules.min_set <= min(seats.min_participants, seats.round_seats):
            raise ValueError(
                f"min_set is {rules.min_set}: min_participants and round_seats must not be below it"
            )

    @classmethod
    def load(cls, path: Path, data: str | None = None) -> Self:
        """Return the configuration at `path`; Misconfigured lists every mistake at once.

        `data` replaces its `data.source`; a path there is relative to the current folder.
        """
        try:
            values = parse_toml(path.read_bytes())
            section = values.get("data", {})
            if data is not None and isinstance(section, dict):
                found = data if data.startswith("hub:") else str(Path(data).resolve())
                values["data"] = {**section, "source": found}
            config = cls.model_validate(values, strict=False)  # paths come as strings
        except OSError as error:
            raise Misconfigured(f"configuration {path}: {error.strerror}") from error
        except ValidationError as error:  # before the next: it is a ValueError too
            told = "; ".join(faults_of(error, cls))
            raise Misconfigured(f"configuration {path}: {told}") from error
        except ValueError as error:
            raise Misconfigured(f"configuration {path}: {error}") from error
        # Before anything is started, which takes minutes: a missing file would end it half-way.
        located = config.data.located(path.resolve().parent)
        try:
            missing = [each for each in located.local_files() if not each.is_file()]
        except OSError as error:  # a name that is too long for any file
            raise Misconfigured(f"configuration {path}: {error.strerror}") from error
        if missing:
            raise Misconfigured(f"configuration {path}: no file {missing[0]}")
        return config.model_copy(update={"data": located})


def token_units(tokens: float) -> TokenUnits:
    """Return an amount in whole tokens as token units, of which 10^18 are one."""
    # By way of integers from millionths on: a float has no 18 exact digits.
    return TokenUnits(round(tokens * 10**6) * 10 ** (TOKEN_DECIMALS - 6))
