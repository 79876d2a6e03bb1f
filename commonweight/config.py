"""The configuration of a federation: one TOML file, read whole and checked before anything starts.

configs/demo.toml explains every key. Paths in it are relative to the file itself.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from protocol.errors import Misconfigured
from protocol.quantities import FULL_BASIS_POINTS, BasisPoints, TokenUnits
from protocol.spec import Encoding, Lora, Quantization, Screening

TOKEN_DECIMALS = 18

Seconds = Annotated[int, Field(ge=0, lt=2**32)]
Positive = Annotated[int, Field(ge=1)]
Tokens = Annotated[float, Field(ge=0, le=1e12)]


class Section(BaseModel):
    """A table of the file: unknown keys are refused, since they are mostly typing errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelSection(Section):
    """The base model and how long an answer of it may be."""

    source: str
    answer_tokens: Positive = 64


class TrainingSection(Section):
    """What a participant does in one round; see protocol.spec.Training."""

    learning_rate: Annotated[float, Field(gt=0)]
    batch_size: Positive
    steps: Positive
    sequence_length: Positive
    scheduler: Literal["constant", "cosine", "linear"] = "constant"
    warmup_steps: Annotated[int, Field(ge=0)] = 0


class DataSection(Section):
    """The public held-out file, and a private file for each participant of a demo."""

    held_out: Path
    participants: Annotated[dict[str, Path], Field(max_length=16)] = {}


class FederationSection(Section):
    """The contract's terms; amounts in whole tokens, times in seconds."""

    rounds: Positive
    round_reward: Tokens
    aggregator_fee: Tokens
    participant_stake: Tokens
    missed_reveal_penalty: Tokens
    aggregator_bond: Tokens
    availability_deposit: Tokens = 0.0
    weight_cap: Positive
    max_participants: Positive = 128
    sampling_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    commit_seconds: Seconds
    reveal_seconds: Seconds
    propose_seconds: Seconds
    challenge_seconds: Seconds
    response_seconds: Seconds = 0
    unbonding_seconds: Seconds
    open_days: Positive = 30

    @model_validator(mode="after")
    def _answers_fit(self) -> Self:
        if self.response_seconds and self.challenge_seconds < 3 * self.response_seconds:
            raise ValueError("response_seconds may be a third of challenge_seconds at most")
        if self.response_seconds and token_units(self.availability_deposit) == 0:
            raise ValueError("availability_deposit must be above 0, or response_seconds 0")
        return self

    @property
    def sampling_basis_points(self) -> BasisPoints:
        """The sampling fraction as the contract counts it."""
        return BasisPoints(max(1, round(self.sampling_fraction * FULL_BASIS_POINTS)))


class AggregationSection(Section):
    """How the aggregator computes the mean; the root is the same either way."""

    mode: Literal["layerwise", "all_at_once"] = "layerwise"


class SimulationSection(Section):
    """How many participants train at the same time on this machine, with how many threads each."""

    processes: Positive = 1
    threads: Positive = 2


class Config(Section):
    """A federation as its operator describes it."""

    model: ModelSection
    quantization: Quantization
    lora: Lora
    encoding: Encoding = Encoding()
    training: TrainingSection
    screening: Screening
    data: DataSection
    federation: FederationSection
    aggregation: AggregationSection = AggregationSection()
    simulation: SimulationSection = SimulationSection()

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        if self.federation.max_participants * self.federation.weight_cap >= 2**31:
            raise ValueError("federation.max_participants * weight_cap must stay below 2^31")
        return self

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the configuration at `path`; Misconfigured lists every mistake at once."""
        try:
            config = cls.model_validate(tomllib.loads(path.read_text()), strict=False)
        except OSError as error:
            raise Misconfigured(f"configuration {path}: {error.strerror}") from error
        except tomllib.TOMLDecodeError as error:
            raise Misconfigured(f"configuration {path}: {error}") from error
        except ValidationError as error:
            raise Misconfigured(f"configuration {path}: {_all_faults(error)}") from error
        data = config.data
        folder = path.resolve().parent
        files = {name: folder / file for name, file in data.participants.items()}
        absolute = DataSection(held_out=folder / data.held_out, participants=files)
        missing = [p for p in (absolute.held_out, *files.values()) if not p.is_file()]
        if missing:
            raise Misconfigured(f"configuration {path}: no file {missing[0]}")
        return config.model_copy(update={"data": absolute})


def token_units(tokens: float) -> TokenUnits:
    """Return an amount in whole tokens as token units, of which 10^18 are one."""
    return TokenUnits(round(tokens * 10**6) * 10 ** (TOKEN_DECIMALS - 6))


def _all_faults(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_input=False)
    return "; ".join(
        f"{'.'.join(str(step) for step in fault['loc'])}: {fault['msg']}" for fault in faults
    )
