"""A role's own settings: one TOML file, whose paths are relative to it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chain.location import FederationLocation
from protocol.canonical import TypedAddress, faults_of
from protocol.errors import Misconfigured
from protocol.text import parse_toml
from protocol.types import Unit
from runtime.stores import StoreSettings
from storage.files import write_atomically, write_json

M = TypeVar("M", bound=BaseModel)


class Settings(BaseModel):
    """Base of a role's settings: unknown keys are refused, and paths are absolute once loaded."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the settings in the TOML file at `path`; Misconfigured with one line otherwise."""
        try:
            content = parse_toml(path.read_bytes())
        except OSError as error:
            raise Misconfigured(f"settings {path}: {error.strerror}") from error
        except ValueError as error:
            raise Misconfigured(f"settings {path}: {error}") from error
        return check_settings(cls, content, path)


def check_settings(kind: type[M], content: object, path: Path) -> M:
    """Return the settings that `content` of the file at `path` means.

    Raises Misconfigured with one line.
    """
    try:
        settings = kind.model_validate(content)
    except ValidationError as error:
        raise Misconfigured(f"settings {path}: {faults_of(error, kind)[0]}") from error
    # Relative to the file, so that a folder can be moved, and `--config` given from anywhere.
    return _below(path.resolve().parent, settings)


def _below(folder: Path, settings: M) -> M:
    """Return settings whose paths, those of their sections too, are taken from `folder`."""
    changed: dict[str, Any] = {}
    for name, value in settings:
        if isinstance(value, Path):
            changed[name] = folder / value
        elif isinstance(value, BaseModel):
            changed[name] = _below(folder, value)
    return settings.model_copy(update=changed)


class RoleSettings(Settings):
    """What every role with a wallet must know."""

    federation: Path
    """The federation file: chain, contract, and the endpoints of node and IPFS daemon."""
    keystore: Path
    """The wallet, an Ethereum keystore; refused while other users can read it."""
    password_file: Path | None = None
    """Holds the wallet's password; without it, `run` asks. Flower's processes need it."""
    state: Path = Path("state")
    """A folder for what a restart goes on with; losing it in a round costs a participant the
    penalty, since its salts are there."""
    progress: Path | None = None
    """Under Flower alone: the file that events go to, in place of the log."""
    tensorboard: Path | None = None
    """A folder for figures of each round, as TensorBoard reads them; unset: none are written."""
    poll_seconds: Annotated[float, Field(gt=0, le=3600), Unit("seconds")] = 2.0
    """Between two looks at the chain; the pauses grow while nothing happens. Less means more
    requests to the node, more may miss a short phase."""
    confirmations: Annotated[int, Field(ge=0, le=1000), Unit("blocks")] = 0
    """How deep the end of the phase before must lie before this role builds on it: a participant
    its reveal, an aggregator its proposal. 0 trusts the newest block, which a chain may undo."""
    withdraw_at: Annotated[float, Field(ge=0), Unit("tokens")] = 0.0
    """Withdraw once so many are due: each withdrawal costs gas."""
    withdraw_to: TypedAddress | None = None
    """The address that withdrawals go to; unset: the wallet's own."""
    max_fee_gwei: Annotated[float, Field(gt=0, le=1e9), Unit("gwei")] | None = None
    """The most to pay for a unit of gas: transactions wait while the chain asks more. Unset: ten
    times the median base fee of the last 1,024 blocks, between 10 and 1,000."""
    store: StoreSettings = StoreSettings()
    """Where this role's blocks are."""

    @property
    def max_fee_per_gas(self) -> int | None:
        """The most to pay for a unit of gas, in wei; None: what follows from recent blocks."""
        return None if self.max_fee_gwei is None else round(self.max_fee_gwei * 10**9)


def write_toml(path: Path, settings: Mapping[str, object]) -> None:
    """Write `settings` as a TOML file, atomically."""
    write_atomically(path, tomli_w.dumps(settings).encode())


def write_location(path: Path, location: FederationLocation) -> None:
    """Write the federation file that participants, aggregator and auditor read."""
    write_json(path, location.model_dump(mode="json"))
