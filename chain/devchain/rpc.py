"""JSON-RPC 2.0: from the bytes of a request to the bytes of its answer.

https://www.jsonrpc.org/specification
"""

import json
import logging
from typing import Any

from chain.devchain import fees, reads, writes  # noqa: F401  each enters its methods in the table
from chain.devchain.node import Node
from chain.devchain.rpc_error import INTERNAL_ERROR, INVALID_REQUEST, PARSE_ERROR, RpcError
from chain.devchain.table import call_method

MAX_BATCH = 1_000
_log = logging.getLogger(__name__)


def answer(node: Node, body: bytes) -> bytes:
    """Return the answer to a request or a batch; nothing when there were only notifications."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return _encode(_failure(None, RpcError(PARSE_ERROR, "parse error: the body is not JSON")))
    if not isinstance(request, list):
        single = _answer_one(node, request)
        return b"" if single is None else _encode(single)
    if not 1 <= len(request) <= MAX_BATCH:
        error = RpcError(INVALID_REQUEST, f"a batch holds 1 to {MAX_BATCH} requests")
        return _encode(_failure(None, error))
    answers = [one for one in (_answer_one(node, item) for item in request) if one is not None]
    return _encode(answers) if answers else b""


def _answer_one(node: Node, request: Any) -> dict[str, Any] | None:
    identity = None
    try:
        identity, method, params = _read_request(request)
        result = call_method(node, method, params)
        response = {"jsonrpc": "2.0", "id": identity, "result": result}
    except RpcError as error:
        if error.code == INVALID_REQUEST:
            return _failure(identity, error)
        response = _failure(identity, error)
    except Exception as error:
        _log.exception("request failed: %.200r", request)
        text = f"internal error: {type(error).__name__}: {error}"
        response = _failure(identity, RpcError(INTERNAL_ERROR, text))
    return response if "id" in request else None  # without an id it was a notification


def _read_request(request: Any) -> tuple[Any, str, list[Any]]:
    if not isinstance(request, dict) or not isinstance(request.get("method"), str):
        raise RpcError(INVALID_REQUEST, "a request is an object with a method")
    identity = request.get("id")
    if isinstance(identity, (list, dict, bool)):
        raise RpcError(INVALID_REQUEST, "an id is a number, a string or null")
    params = request.get("params")
    if params is not None and not isinstance(params, list):
        raise RpcError(INVALID_REQUEST, "params is a list")
    # Clients end a list with null for a parameter they leave out.
    while params and params[-1] is None:
        params = params[:-1]
    return identity, request["method"], params or []


def _failure(identity: Any, error: RpcError) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identity, "error": error.as_json()}


def _encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
