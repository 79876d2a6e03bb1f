"""A role's own settings: one TOML file, whose paths are relative to it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chain.location import FederationLocation
from protocol.canonical import ChecksumAddress, faults_of
from protocol.errors import Misconfigured
from protocol.text import parse_toml
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
    """What every role with a wallet must know.

    `poll_seconds` is the time between two looks at the chain, longer while nothing happens
    (runtime/service.py), and `confirmations` how many blocks deep the others' submissions must be
    before this role's own step builds on them.
    """

    federation: Path
    keystore: Path
    password_file: Path | None = None
    state: Path = Path("state")
    progress: Path | None = None
    tensorboard: Path | None = None
    poll_seconds: Annotated[float, Field(gt=0, le=3600)] = 2.0
    confirmations: Annotated[int, Field(ge=0, le=1000)] = 0
    withdraw_at: Annotated[float, Field(ge=0)] = 0.0
    withdraw_to: ChecksumAddress | None = None
    max_fee_gwei: Annotated[float, Field(gt=0, le=1e9)] | None = None
    store: StoreSettings = StoreSettings()

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
