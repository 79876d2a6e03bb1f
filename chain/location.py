"""Where a federation is found: the small public file that an operator hands to participants."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from protocol.errors import Misconfigured
from protocol.types import Address, parse_address


def _checked(text: str) -> str:
    try:
        return parse_address(text)
    except Misconfigured as error:
        raise ValueError(str(error)) from error


class FederationLocation(BaseModel):
    """The chain, the contract on it, and a daemon from which its content can be had."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chain_id: Annotated[int, Field(ge=1)]
    address: Annotated[Address, AfterValidator(_checked)]
    deployment_block: Annotated[int, Field(ge=0)]
    rpc_url: str
    ipfs_url: str

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the location in the JSON file at `path`; Misconfigured with one line otherwise."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise Misconfigured(f"federation file {path}: {error.strerror}") from error
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            place = ".".join(str(step) for step in fault["loc"])
            raise Misconfigured(f"federation file {path}: {place}: {fault['msg']}") from error
