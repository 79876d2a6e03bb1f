"""The location of a federation: the small public file that an operator hands to participants."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from protocol.canonical import TypedAddress, first_fault
from protocol.errors import Misconfigured
from protocol.text import parse_json


class FederationLocation(BaseModel):
    """The chain, the contract on it, and a daemon where its content is available."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[2] = 2
    chain_id: Annotated[int, Field(ge=1)]
    address: TypedAddress
    deployment_block: Annotated[int, Field(ge=0)]
    rpc_url: str
    ipfs_url: str

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the location in the JSON file at `path`; a one-line Misconfigured otherwise."""
        try:
            content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")  # an editor's, on Windows
            if _is_of_version_1(content):
                raise Misconfigured(
                    f"federation file {path}: of version 1 of the protocol, which has ended:"
                    " ask the sponsor for the file of a new federation"
                )
            return cls.model_validate_json(content)
        except OSError as error:
            raise Misconfigured(f"federation file {path}: {error.strerror}") from error
        except ValidationError as error:
            raise Misconfigured(f"federation file {path}: {first_fault(error)}") from error


def _is_of_version_1(content: bytes) -> bool:
    try:
        fields = parse_json(content)
    except ValueError:
        return False
    return isinstance(fields, dict) and "address" in fields and "version" not in fields
