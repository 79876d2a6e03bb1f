"""The configuration of a federation: one TOML file, read whole and checked before anything starts.

docs/settings.md has every key, configs/demo.toml an example with notes. Paths in it are relative to
the file itself.
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
from protocol.types import TOKEN_DECIMALS, TokenUnits, Unit

LONGEST_OPEN_DAYS: Final = 5 * 365
"""The contract refuses a closing date more than five years ahead."""

# The contract's limit of a window.
Seconds = Annotated[int, Field(ge=0, le=30 * 86_400), Unit("seconds")]
Positive = Annotated[int, Field(ge=1)]
Tokens = Annotated[float, Field(ge=0, le=1e12), Unit("tokens")]


class Section(BaseModel):
    """A table of the file. Unknown keys are refused, since most are typing errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelSection(Section):
    """The base model, and how long its answers may be."""

    source: str
    """`package:NAME`, a folder, `tiny-llama`, or OWNER/NAME@REVISION on the hub."""
    answer_tokens: Annotated[Positive, Unit("tokens of text")] = 64
    """The longest answer of `commonweight model chat`."""
    template: Literal["chat", "vicuna", "alpaca"] = "chat"
    """How question and answer become text: by the tokenizer's own chat template, or one of two for
    models without."""


class TrainingSection(Section):
    """What a participant does in one round."""

    learning_rate: Annotated[float, Field(gt=0)]
    """AdamW's, at the beginning of a round."""
    batch_size: Annotated[Positive, Unit("examples")]
    """In each step; a larger one takes more memory."""
    steps: Annotated[Positive, Unit("steps")]
    """In each round. Steps times batch size is the weight cap, and the examples that
    `update_reward` pays for."""
    sequence_length: Annotated[Positive, Unit("tokens of text")]
    """Longer examples are truncated and counted; what is beyond is never learnt."""
    scheduler: Literal["constant", "cosine", "linear"] = "constant"
    """Of the learning rate inside a round."""
    warmup_steps: Annotated[int, Field(ge=0), Unit("steps")] = 0
    """Over which the learning rate rises from 0 at the beginning of each round."""
    over_rounds: RoundSchedule | None = None
    """The decay of the learning rate over the rounds; unset: none."""
    proximal_mu: Annotated[float, Field(ge=0)] = 0.0
    """FedProx's μ: pulls an update towards the model it started from, for data that differ; 0: not
    at all."""
    padding_side: Literal["right", "left"] = "right"
    """Where shorter examples of a batch are padded."""
    gradient_checkpointing: bool = False
    """Takes a third more time and a fraction of the activations' memory."""


class FieldsSection(Section):
    """What the fields of a row are called; without any, well-known names are tried."""

    question: str | None = None
    """The field with the question."""
    context: str | None = None
    """The field with what the question is about, where rows have one."""
    answer: str | None = None
    """The field with the answer, which is what is learnt."""
    messages: str | None = None
    """The field with a whole conversation, in place of question and answer."""


class PartitionSection(Section):
    """How one data set is shared out among participants on this machine."""

    kind: Literal["iid", "dirichlet", "field"] = "iid"
    """`iid`: evenly; `dirichlet`: each group by Dirichlet(alpha); `field`: a group each."""
    field: str | None = None
    """The field whose text says which group a row is of; `dirichlet` and `field` need it."""
    until: str | None = None
    """Only the part of the text before this one counts."""
    alpha: Annotated[float, Field(gt=0)] = 0.5
    """Of `dirichlet`: the smaller, the more uneven."""
    smallest: Annotated[Positive, Unit("examples")] = 10
    """Of `dirichlet`: that each participant has at least; shares are drawn until it is so."""

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
    """The public examples that losses are measured on; their digest is in the spec."""
    source: str | None = None
    """One data set for all, a file or `hub:OWNER/NAME`, in place of `participants`."""
    fields: FieldsSection = FieldsSection()
    """What the fields of a row are called."""
    encoding: str | None = None
    """The encoding of the participants' data; unset: UTF-8, or UTF-16 with its mark."""
    partition: PartitionSection = PartitionSection()
    """How `source` is shared out."""
    held_out_share: Annotated[float, Field(gt=0, lt=1), Unit("share")] | None = None
    """Of `source`, in place of `held_out`."""
    validation: Annotated[float, Field(ge=0, lt=1), Unit("share")] = 0.0
    """Of each participant's data, kept back to measure on every round."""
    question: Annotated[str, Field(min_length=1)] | None = None
    """A held-out question that the demo asks each round's model, beside the base model; unset:
    none."""
    share_among: Annotated[int, Field(ge=1, le=128), Unit("participants")] | None = None
    """Among whom `source` is shared."""
    participants: Annotated[dict[str, Path], Field(max_length=128)] = {}
    """One file of private examples for each participant of the demo, by name; only the paths are
    used, and `federation create` uses none."""

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

    grid_bits: Annotated[int, Field(ge=0, le=FRACTION_BITS), Unit("bits")] | None = None
    """A step of an update is 2^-grid_bits. Too fine, large movements are clipped at 127 steps; too
    coarse, small ones become 0. Unset: the trial round chooses it."""
    grid_every: Annotated[int, Field(ge=0, lt=2**32), Unit("rounds")] = 0
    """After which the step is halved, again and again; 0: never."""


class ScreeningSection(Section):
    """The limits of an update (docs/protocol.md §6)."""

    min_norm: Annotated[Positive, Unit("steps of the grid")] | None = None
    """The shortest update by its L2 norm; check 9 rejects a shorter one. Unset: a tenth of what the
    trial round moved."""
    max_update_norm: Annotated[float, Field(gt=0), Unit("the model's units")] | None = None
    """The longest. Unset: the grid alone bounds it, or where updates are masked twice what the
    trial round moved."""


class SeatsSection(Section):
    """Who takes part in how many rounds; fixed in the contract."""

    rounds: Annotated[int, Field(ge=1, lt=2**32), Unit("rounds")]
    """How many are played; the escrow for all of them is locked from the start."""
    max_participants: Annotated[int, Field(ge=1, le=512), Unit("participants")] = 128
    """How many seats there are."""
    min_participants: Annotated[int, Field(ge=1, le=512), Unit("participants")] = 1
    """No round opens with fewer active ones: it keeps an aggregator from playing with its own."""
    round_target: Annotated[int, Field(ge=1, le=512), Unit("participants")] = 40
    """About how many of the active ones are drawn each round; all while no more are active."""
    round_seats: Annotated[int, Field(ge=1, le=64), Unit("updates")] = 64
    """The most that a round takes; 32 masked ones. A round costs at most so many prices."""
    max_missed: Annotated[int, Field(ge=1, le=255), Unit("rounds")] = 3
    """Missed in a row, after which anybody may free the seat; the stake stays."""
    by_invitation: bool = False
    """Whoever joins needs a line of `commonweight federation invite`."""

    @model_validator(mode="after")
    def _can_begin(self) -> Self:
        if self.min_participants > self.max_participants:
            raise ValueError("min_participants must not be above max_participants")
        return self


class MoneySection(Section):
    """What is paid and held, in whole tokens; fixed in the contract."""

    update_reward: Tokens
    """The price of an update of `steps` times `batch_size` examples, whoever else sends one."""
    aggregator_fee: Tokens
    """For a round, by the weight of what was accepted."""
    participant_stake: Tokens
    """Held while taking part: what a participant may lose."""
    missed_reveal_penalty: Tokens
    """Burned from the stake for a commitment that is never revealed."""
    aggregator_bond: Tokens
    """Held while aggregating, and lost for what a challenge proves: half to the challenger, half
    burned."""
    availability_deposit: Tokens = 0.0
    """What a leaf request costs; whoever posts the leaf gets it."""

    @model_validator(mode="after")
    def _stake_covers_the_penalty(self) -> Self:
        if self.missed_reveal_penalty > self.participant_stake:
            raise ValueError("missed_reveal_penalty must not be above participant_stake")
        return self


class WindowsSection(Section):
    """The phases of a round; a phase ends early once everybody has acted.

    Seal, unmask and assist are phases of masked rounds, and count for nothing in clear ones.
    """

    commit_seconds: Seconds
    """To train and commit."""
    reveal_seconds: Seconds
    """To publish what was committed. Where updates are masked, 1,800 at least among strangers:
    commitments must be final before anybody masks."""
    seal_seconds: Seconds = 0
    """For the aggregator to say which updates are summed."""
    unmask_seconds: Seconds = 0
    """For their owners to open what the sum needs; 1,800 at least among strangers."""
    assist_seconds: Seconds = 0
    """For the others to recover what a silent one did not open."""
    propose_seconds: Seconds
    """To fetch, check, average and propose; late, the bond is lost."""
    challenge_seconds: Seconds
    """In which a proposal can be challenged; 3,600 at least among strangers."""
    response_seconds: Seconds = 0
    """To answer a leaf request; at most a third of `challenge_seconds`. 0: no leaf can be
    requested, so that withheld bytes cost nobody anything."""
    unbonding_seconds: Seconds
    """From leaving until stake or bond is free: at least all phases from commit to propose."""
    open_days: Annotated[int, Field(ge=1, le=LONGEST_OPEN_DAYS), Unit("days")] = 30
    """After which no round opens any more, and the sponsor may take back the escrow."""

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
    """How updates are published and paid for (docs/protocol.md §5 and §9)."""

    privacy: Literal["clear", "masked"] = "clear"
    """`clear`: every update is public, for ever; `masked`: only the sum of a round's."""
    min_set: Annotated[int, Field(ge=MIN_PARTICIPANTS, le=MAX_PARTICIPANTS), Unit("updates")] = (
        MIN_PARTICIPANTS
    )
    """Where updates are masked: without so many no sum is opened. A sum of few says much."""
    scoring: Literal["equal", "heldOut"] = "equal"
    """`equal`: every accepted update has its full price; `heldOut`: the share that its measured
    help to the held-out loss is worth, which takes an aggregator with the base model."""
    score_gain: Literal["whole", "new"] = "new"
    """Of `heldOut`: measure all of an update, or what it adds to those of the two rounds before."""
    loss_tolerance: Annotated[float, Field(ge=0, le=1), Unit("nats")] = 0.0001
    """Of `heldOut`: how far an auditor's losses may differ from the aggregator's."""

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
    """How the demo's aggregator computes the mean."""

    mode: Literal["layerwise", "all_at_once"] = "layerwise"
    """`all_at_once` holds every update in memory, for comparison; the root is the same."""


class SimulationSection(Section):
    """How much of this machine the demo takes."""

    processes: Annotated[Positive, Unit("participants")] = 1
    """That train at the same time."""
    threads: Annotated[Positive, Unit("threads")] = 2
    """Of each of them."""


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
