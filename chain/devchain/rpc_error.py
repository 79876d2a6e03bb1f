"""The error object of JSON-RPC 2.0, with the codes that Ethereum nodes use."""

from typing import Any

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
SERVER_ERROR = -32000  # what go-ethereum answers for a refused transaction
EXECUTION_REVERTED = 3  # carries the revert bytes in `data`


class RpcError(Exception):
    """A request that cannot be answered; `as_json` is its JSON-RPC error object."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def as_json(self) -> dict[str, Any]:
        """Return the error object: code, message and, where there is one, data."""
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data is not None:
            body["data"] = self.data
        return body


def invalid_params(message: str) -> RpcError:
    """Return the error for parameters of a wrong number, type or value."""
    return RpcError(INVALID_PARAMS, message)


def refused(message: str) -> RpcError:
    """Return the error for a well-formed request that the chain does not accept."""
    return RpcError(SERVER_ERROR, message)
