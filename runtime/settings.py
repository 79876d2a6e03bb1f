"""A role's own settings: one TOML file, whose paths are relative to it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chain.location import FederationLocation
from protocol.canonical import ChecksumAddress, first_fault
from protocol.errors import Misconfigured
from protocol.text import parse_toml
from storage.files import write_atomically, write_json


class Settings(BaseModel):
    """Base of a role's settings: unknown keys are refused, and paths are absolute once loaded."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the settings in the TOML file at `path`; Misconfigured with one line otherwise."""
        try:
            settings = cls.model_validate(parse_toml(path.read_bytes()))
        except OSError as error:
            raise Misconfigured(f"settings {path}: {error.strerror}") from error
        except ValidationError as error:  # before the next: it is a ValueError too
            raise Misconfigured(f"settings {path}: {first_fault(error)}") from error
        except ValueError as error:
            raise Misconfigured(f"settings {path}: {error}") from error
        # Relative to the file, so that a folder can be moved, and `--config` given from anywhere.
        folder = path.resolve().parent
        paths = {name: value for name, value in settings if isinstance(value, Path)}
        return settings.model_copy(update={name: folder / value for name, value in paths.items()})


class RoleSettings(Settings):
    """What every role with a wallet must know.

    `poll_seconds` is the time between two looks at the chain, and `confirmations` how many blocks
    deep the others' submissions must be before this role's own step builds on them.
    """

    federation: Path
    keystore: Path
    password_file: Path | None = None
    state: Path = Path("state")
    progress: Path | None = None
    poll_seconds: Annotated[float, Field(gt=0, le=3600)] = 2.0
    confirmations: Annotated[int, Field(ge=0, le=1000)] = 0
    withdraw_at: Annotated[float, Field(ge=0)] = 0.0
    withdraw_to: ChecksumAddress | None = None
    max_fee_gwei: Annotated[float, Field(gt=0, le=1e9)] | None = None

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
