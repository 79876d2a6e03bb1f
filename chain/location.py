"""The location of a federation: the small public file that an operator hands to participants."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protocol.canonical import ChecksumAddress, first_fault
from protocol.errors import Misconfigured


class FederationLocation(BaseModel):
    """The chain, the contract on it, and a daemon where its content is available."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chain_id: Annotated[int, Field(ge=1)]
    address: ChecksumAddress
    deployment_block: Annotated[int, Field(ge=0)]
    rpc_url: str
    ipfs_url: str

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the location in the JSON file at `path`; a one-line Misconfigured otherwise."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise Misconfigured(f"federation file {path}: {error.strerror}") from error
        except ValidationError as error:
            raise Misconfigured(f"federation file {path}: {first_fault(error)}") from error
