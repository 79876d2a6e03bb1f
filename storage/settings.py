"""A role's own settings: one TOML file, whose paths are relative to it."""

import tomllib
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from protocol.documents import first_fault
from protocol.errors import Misconfigured


class Settings(BaseModel):
    """Base of a role's settings: unknown keys are refused, and paths are absolute once loaded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the settings in the TOML file at `path`; Misconfigured with one line otherwise."""
        try:
            settings = cls.model_validate(tomllib.loads(path.read_text()))
        except OSError as error:
            raise Misconfigured(f"settings {path}: {error.strerror}") from error
        except tomllib.TOMLDecodeError as error:
            raise Misconfigured(f"settings {path}: {error}") from error
        except ValidationError as error:
            raise Misconfigured(f"settings {path}: {first_fault(error)}") from error
        folder = path.resolve().parent
        paths = {name: value for name, value in settings if isinstance(value, Path)}
        return settings.model_copy(update={name: folder / value for name, value in paths.items()})
