"""The connection to an Ethereum node, and the one place where its failures get their names.

- The node cannot be reached, is too slow, or answers HTTP 5xx or 429: Unavailable.
- It refuses the address or key (other HTTP 4xx), or serves another chain: Misconfigured.
- A contract reverts: chain.reverts.Reverted, with the contract's own error decoded.

    w3 = connect("http://127.0.0.1:8545", chain_id=31337)
    with plain_errors():
        w3.eth.get_balance(address)
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import urlsplit

import requests
from web3 import Web3
from web3.exceptions import (
    BadFunctionCallOutput,
    BlockNotFound,
    ContractLogicError,
    Web3Exception,
    Web3RPCError,
)
from web3.middleware import AttributeDictMiddleware
from web3.providers.base import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from chain.reverts import decode_revert, find_revert_data
from protocol.errors import Misconfigured, Unavailable

DEFAULT_TIMEOUT_S = 15.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_LIMIT_EXCEEDED = -32005  # EIP-1474's code for a request that asks for too much


class TimedOut(Unavailable):
    """The node did not answer in time: a smaller question may succeed."""


def connect(
    rpc_url: str, *, chain_id: int | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
) -> Web3:
    """Return a connection to the node at `rpc_url` (http or https), after asking it for its chain.

    It may be shared between threads. `timeout_s` bounds each wait for the node. Misconfigured when
    the URL is none or the node serves another chain than `chain_id`; Unavailable when it is down.
    """
    parts = urlsplit(rpc_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Misconfigured(
            f"the RPC address {rpc_url!r} was expected to be like http://127.0.0.1:8545"
        )
    provider = RpcProvider(rpc_url, timeout_s)
    # Neither ENS names nor web3's own gas and fee guesses: addresses are digits, chain.transactions
    # sets gas and fees.
    w3 = Web3(provider, middleware=[(AttributeDictMiddleware, "attrdict")])
    w3.ens = None
    with plain_errors():
        served = w3.eth.chain_id
    if chain_id is not None and served != chain_id:
        raise Misconfigured(
            f"the Ethereum RPC at {provider.place} serves chain {served},"
            f" chain {chain_id} was expected"
        )
    return w3


class RpcProvider(JSONBaseProvider):
    """JSON-RPC over HTTP with one session a thread; `place` is the URL without its secrets."""

    def __init__(self, rpc_url: str, timeout_s: float) -> None:
        super().__init__()
        # A contract must not be able to send this machine to an URL of its choice (EIP-3668).
        self.global_ccip_read_enabled = False
        self.place = _place(rpc_url)
        self._url = rpc_url
        self._timeout_s = timeout_s
        self._local = threading.local()

    def __str__(self) -> str:
        return f"RPC connection {self.place}"

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """Return the node's answer; Unavailable or Misconfigured when there is none."""
        response = self._post(self.encode_rpc_request(method, params))
        status = response.status_code
        if status >= 500 or status == 429:
            raise Unavailable(
                f"the Ethereum RPC at {self.place} answers HTTP {status}: try again later"
            )
        answer = _read_answer(response)  # some nodes send an error object with HTTP 400
        if answer is not None:
            return answer
        if status == 413:
            error = {"code": _LIMIT_EXCEEDED, "message": "HTTP 413: too large"}
            return cast(RPCResponse, {"jsonrpc": "2.0", "id": None, "error": error})
        if status >= 400:
            raise Misconfigured(
                f"the Ethereum RPC at {self.place} answers HTTP {status}: check its address and key"
            )
        raise Unavailable(f"the Ethereum RPC at {self.place} does not answer in JSON-RPC")

    def _post(self, body: bytes) -> requests.Response:
        try:
            return self._try_post(body)
        except requests.Timeout as error:
            raise TimedOut(
                f"the Ethereum RPC at {self.place} did not answer within {self._timeout_s:g} s"
            ) from error
        except requests.RequestException as error:
            raise Unavailable(
                f"the Ethereum RPC at {self.place} cannot be reached ({_cause(error)}):"
                " check that it runs there"
            ) from error

    def _try_post(self, body: bytes) -> requests.Response:
        headers = {"Content-Type": "application/json"}
        try:
            return self._session().post(
                self._url, data=body, headers=headers, timeout=self._timeout_s
            )
        except requests.Timeout:
            raise
        except requests.ConnectionError:
            # A node may close an idle connection just as it is used again. Asking twice does no
            # harm: a transaction sent twice is the same transaction.
            return self._session().post(
                self._url, data=body, headers=headers, timeout=self._timeout_s
            )

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.trust_env = urlsplit(self._url).hostname not in _LOOPBACK  # no proxy to itself
            self._local.session = session
        return session


@contextmanager
def plain_errors() -> Iterator[None]:
    """Turn what web3 raises inside into this project's errors.

    Reverted for a revert, Misconfigured when a contract's answer does not fit its interface, and
    Unavailable for everything else that a node may refuse.
    """
    try:
        yield
    except BadFunctionCallOutput as error:
        raise Misconfigured(
            "the contract's answer does not fit its interface:"
            " it is not there, not there at that block, or another contract"
        ) from error
    except BlockNotFound as error:
        raise Unavailable(f"the Ethereum RPC does not have that block: {error.message}") from error
    except ContractLogicError as error:
        raise decode_revert(find_revert_data(error) or b"") from error
    except Web3RPCError as error:
        data = find_revert_data(error)
        if data is not None:
            raise decode_revert(data) from error
        raise Unavailable(f"the Ethereum RPC refuses: {error_message(error)}") from error
    except Web3Exception as error:
        raise Unavailable(f"the Ethereum RPC answers out of form: {error}") from error


def error_message(error: Web3RPCError) -> str:
    """Return the message of the node's error object, in one line."""
    told = (error.rpc_response or {}).get("error")
    message = told.get("message") if isinstance(told, dict) else None
    return " ".join(str(message or error.message).split())


def _place(rpc_url: str) -> str:
    """Return the URL without user, path and query, where providers put their keys."""
    parts = urlsplit(rpc_url)
    host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}"


def _read_answer(response: requests.Response) -> RPCResponse | None:
    """Return the JSON-RPC answer in the body, or None when there is none."""
    try:
        answer = json.loads(response.content)
    except ValueError:
        return None
    if not isinstance(answer, dict) or not ("result" in answer or "error" in answer):
        return None
    # One request an answer: its id tells nothing, and some nodes leave it or the version out.
    checked = {"jsonrpc": "2.0", "id": 0}
    error = answer.get("error")
    if error is None:
        checked["result"] = answer.get("result")
    else:
        checked["error"] = error if isinstance(error, dict) else {"code": 0, "message": str(error)}
    return cast(RPCResponse, checked)


def _cause(error: requests.RequestException) -> str:
    text = str(error)
    known = {
        "refused": "connection refused",
        "Name or service not known": "no such host",
        "Failed to resolve": "no such host",
        "CERTIFICATE": "its certificate is not trusted",
        "reset by peer": "connection reset",
        "RemoteDisconnected": "connection closed",
    }
    return next((words for mark, words in known.items() if mark in text), type(error).__name__)
