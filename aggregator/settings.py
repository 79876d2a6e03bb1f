"""An aggregator's own settings: one TOML file, with paths relative to it.

federation = "federation.json"      # chain, contract, IPFS
keystore = "wallet.json"            # Ethereum keystore; nobody else may read it
password_file = "wallet.password"
"""

import tomllib
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from protocol.documents import first_fault
from protocol.errors import Misconfigured


class AggregatorSettings(BaseModel):
    """What an aggregator's machine must know; all paths are absolute once loaded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    federation: Path
    keystore: Path
    password_file: Path
    state: Path = Path("state")
    progress: Path | None = None
    wait_for: Path | None = None

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the settings in the TOML file at `path`; Misconfigured with one line otherwise."""
        try:
            settings = cls.model_validate(tomllib.loads(path.read_text()))
        except OSError as error:
            raise Misconfigured(f"aggregator settings {path}: {error.strerror}") from error
        except tomllib.TOMLDecodeError as error:
            raise Misconfigured(f"aggregator settings {path}: {error}") from error
        except ValidationError as error:
            raise Misconfigured(f"aggregator settings {path}: {first_fault(error)}") from error
        folder = path.resolve().parent
        paths = {name: value for name, value in settings if value is not None}
        return settings.model_copy(update={name: folder / value for name, value in paths.items()})
