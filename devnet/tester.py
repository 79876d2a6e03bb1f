"""eth-tester as a chain: web3's own provider for it, behind JSON-RPC, in memory only.

    python -m devnet.tester --port 8545          for a devnet where anvil is not installed
    w3 = connect_tester()                        for a test, in this process and without HTTP

web3's EthereumTesterProvider answers most requests. Done here is what it does not do: the chain id
and accounts of the devnet, a clock that follows the wall clock (eth-tester's blocks are a second
apart), calls and estimates of gas at "pending" and with the revert data, and moving the clock.
Whatever is mined is gone when the process ends.
"""

import argparse
import json
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from eth.exceptions import Revert
from eth.vm.spoof import SpoofTransaction
from eth_keys.main import KeyAPI
from eth_tester import EthereumTester
from eth_tester.backends.pyevm.main import PyEVMBackend
from eth_utils.crypto import keccak
from web3 import Web3
from web3.middleware import AttributeDictMiddleware
from web3.providers.base import JSONBaseProvider
from web3.providers.eth_tester import EthereumTesterProvider
from web3.types import RPCEndpoint, RPCResponse

from devnet.accounts import CHAIN_ID, DEV_BALANCE_WEI, dev_keys

_GAS_LIMIT: Final = 30_000_000
_CALL_STIPEND: Final = 2_300
_REVERTED: Final = 3  # the code of go-ethereum and anvil for a revert
_REFUSED: Final = -32000
_MOST_BYTES: Final = 2_000_000  # of a request; anvil's limit


def connect_tester() -> Web3:
    """Return a connection, like `ethereum.rpc.connect`'s, to a new chain in this process."""
    w3 = Web3(_InProcess(TesterChain()), middleware=[(AttributeDictMiddleware, "attrdict")])
    w3.ens = None
    return w3


class RpcError(Exception):
    """An error object of JSON-RPC, with the revert data of a call that reverted."""

    def __init__(self, code: int, message: str, data: str | None = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message, **({} if data is None else {"data": data})}


class TesterChain:
    """One chain; `answer` may be called from several threads."""

    def __init__(self) -> None:
        self._backend = _new_backend()
        self._provider = EthereumTesterProvider(EthereumTester(self._backend))
        no_middleware = Web3(self._provider, middleware=[])
        self._ask = self._provider.request_func(no_middleware, no_middleware.middleware_onion)
        self._lock = threading.Lock()
        self._offset = 0  # seconds that the chain's clock is ahead of the wall clock
        self._pinned: int | None = None  # the time of the next block, where it was set
        self._offsets: dict[str, int] = {}  # by snapshot
        self._own: dict[str, Callable[..., Any]] = {
            "eth_chainId": lambda: CHAIN_ID,
            "net_version": lambda: str(CHAIN_ID),
            "eth_call": self._call,
            "eth_estimateGas": self._estimate_gas,
            "evm_increaseTime": self._increase_time,
            "evm_setNextBlockTimestamp": self._pin_time,
            "evm_mine": self._mine,
            "evm_snapshot": self._snapshot,
            "evm_revert": self._revert,
        }

    def answer(self, method: str, params: list[Any]) -> dict[str, Any]:
        """Return the JSON-RPC answer to a request, ready to be written as JSON."""
        with self._lock:
            try:
                self._set_clock()
                return {"result": _to_json(self._result(method, params))}
            except RpcError as error:
                return {"error": error.error}
            except Exception as error:  # py-evm, eth-tester and web3 each raise kinds of their own
                reason = f"{type(error).__name__}: {error}"
                return {"error": {"code": _REFUSED, "message": reason}}

    def _result(self, method: str, params: list[Any]) -> Any:
        own = self._own.get(method)
        if own is not None:
            return own(*params)
        answer = self._ask(RPCEndpoint(method), params)
        if "error" in answer:
            raise RpcError(-32601, f"{method} is not available")
        if method == "eth_sendRawTransaction":
            self._mined()
        return answer["result"]

    # ------------------------------------------------------------------- time

    def _set_clock(self) -> None:
        """Give the pending block the time at which it would be mined now, and a mix hash."""
        chain = self._backend.chain
        parent = chain.get_block_header_by_hash(chain.header.parent_hash)
        wanted = self._pinned or int(time.time()) + self._offset
        chain.header = chain.header.copy(
            timestamp=max(parent.timestamp + 1, wanted), mix_hash=keccak(parent.hash)
        )

    def _mined(self) -> None:
        """Go on from a time that was set, once its block is mined."""
        if self._pinned is not None:
            self._offset, self._pinned = self._pinned - int(time.time()), None

    def _increase_time(self, seconds: str | int) -> int:
        # Counted from the next block: many blocks within a second run ahead of the clock.
        ahead = self._backend.chain.header.timestamp - int(time.time())
        self._offset = ahead + _integer(seconds)
        return self._offset

    def _pin_time(self, timestamp: str | int) -> None:
        wanted = _integer(timestamp)
        latest = self._ask(RPCEndpoint("eth_getBlockByNumber"), ["latest", False])["result"]
        if wanted <= latest["timestamp"]:
            raise RpcError(_REFUSED, f"the latest block is later than {wanted}")
        self._pinned = wanted

    def _mine(self) -> str:
        self._backend.mine_blocks()
        self._mined()
        return "0x0"

    def _snapshot(self) -> str:
        name: str = self._ask(RPCEndpoint("evm_snapshot"), [])["result"]
        self._offsets[name] = self._offset
        return name

    def _revert(self, name: str) -> bool:
        self._ask(RPCEndpoint("evm_revert"), [name])
        self._offset, self._pinned = self._offsets[name], None
        return True

    # ------------------------------------------------------------------ calls

    def _call(self, request: dict[str, Any], block: Any = "latest") -> bytes:
        header = self._header(block)
        output, _ = self._run(request, header, _integer(request.get("gas", _GAS_LIMIT)))
        return output

    def _estimate_gas(self, request: dict[str, Any], block: Any = "pending") -> int:
        header = self._header(block)
        _, used = self._run(request, header, _GAS_LIMIT)
        # A call hands on 63/64 of its gas: what was used may be too little to succeed with.
        gas = used * 64 // 63 + _CALL_STIPEND
        while gas < _GAS_LIMIT:
            try:
                self._run(request, header, gas)
            except RpcError:
                gas *= 2
            else:
                break
        return min(gas, _GAS_LIMIT)

    def _header(self, block: Any) -> Any:
        """Return the header in whose context to run; a call without a fee pays none."""
        if block == "pending":
            header = self._backend.chain.header
        else:
            found = self._ask(RPCEndpoint("eth_getBlockByNumber"), [block, False])["result"]
            if found is None:
                raise RpcError(_REFUSED, f"block {block} is not there")
            header = self._backend.chain.get_canonical_block_header_by_number(found["number"])
        return header.copy(base_fee_per_gas=0)

    def _run(self, request: dict[str, Any], header: Any, gas: int) -> tuple[bytes, int]:
        """Return what a call returns and the gas it takes before refunds, without mining it."""
        chain = self._backend.chain
        vm = chain.get_vm(header)
        sender = bytes.fromhex(request.get("from", "0x" + "00" * 20)[2:])
        unsigned = chain.get_transaction_builder().new_unsigned_dynamic_fee_transaction(
            chain_id=CHAIN_ID,
            nonce=vm.state.get_nonce(sender),
            max_priority_fee_per_gas=0,
            max_fee_per_gas=0,
            gas=min(gas, _GAS_LIMIT),
            to=bytes.fromhex((request.get("to") or "0x")[2:]),
            value=_integer(request.get("value", 0)),
            data=bytes.fromhex(request.get("input", request.get("data", "0x"))[2:]),
            access_list=(),
        )
        transaction = SpoofTransaction(unsigned, from_=sender)
        vm.state.lock_changes()
        computation = vm.state.apply_transaction(transaction)
        error = computation.error if computation.is_error else None
        if isinstance(error, Revert):
            raise RpcError(_REVERTED, "execution reverted", "0x" + computation.output.hex())
        if error is not None:
            raise RpcError(_REFUSED, f"{type(error).__name__}: {error}")
        used = vm.finalize_gas_used(transaction, computation) + computation.get_gas_refund()
        return bytes(computation.output), int(used)


class _InProcess(JSONBaseProvider):
    """Hands requests to a chain in this process, as JSON would carry them."""

    def __init__(self, chain: TesterChain) -> None:
        super().__init__()
        self._chain = chain

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        sent = json.loads(self.encode_rpc_request(method, params))
        answer: Any = {"jsonrpc": "2.0", "id": 0, **self._chain.answer(method, sent["params"])}
        return self.decode_rpc_response(json.dumps(answer).encode())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one packet
    disable_nagle_algorithm = True
    chain: TesterChain

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"] or 0)
        if length > _MOST_BYTES:
            self.close_connection = True
            self.send_error(413)
            return
        try:
            request = json.loads(self.rfile.read(length))
            answer = self.chain.answer(request["method"], request.get("params") or [])
        except (ValueError, TypeError, KeyError):
            request, answer = {}, {"error": {"code": -32600, "message": "not a JSON-RPC request"}}
        body = json.dumps({"jsonrpc": "2.0", "id": request.get("id"), **answer}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet: a line for each request would bury what matters."""


class _Backend(PyEVMBackend):  # type: ignore[misc]
    def mine_blocks(self, num_blocks: int = 1, coinbase: bytes = b"") -> tuple[bytes, ...]:
        """Mine as eth-tester does, but leave the mix hash with which the transactions have run.

        eth-tester draws another one afterwards: `block.prevrandao` would be zero for a contract,
        and a snapshot could not be gone back to, as the block does not follow from its header.
        """
        return tuple(bytes(self.chain.mine_block().hash) for _ in range(num_blocks))


def _new_backend() -> Any:
    parameters = PyEVMBackend.generate_genesis_params({"gas_limit": _GAS_LIMIT})
    keys = tuple(KeyAPI().PrivateKey(key) for key in dev_keys())
    funded = {"balance": DEV_BALANCE_WEI, "nonce": 0, "code": b"", "storage": {}}
    accounts = {key.public_key.to_canonical_address(): funded for key in keys}
    backend = _Backend(genesis_parameters=parameters, genesis_state=accounts)
    backend.account_keys = keys
    # On the class, which is this backend's own: reverting to the genesis makes a new chain of it.
    type(backend.chain).chain_id = CHAIN_ID
    return backend


def _integer(value: str | int) -> int:
    return int(value, 16) if isinstance(value, str) else value


def _to_json(value: Any) -> Any:
    """Return a result with its numbers and bytes in hex, as JSON-RPC has them."""
    if isinstance(value, Mapping):
        return {key: _to_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(each) for each in value]
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, int) and not isinstance(value, bool):
        return hex(value)
    return value


def main() -> None:
    """Serve a new chain until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8545)
    options = parser.parse_args()
    handler = type("Handler", (_Handler,), {"chain": TesterChain()})
    ThreadingHTTPServer((options.host, options.port), handler).serve_forever()


if __name__ == "__main__":
    main()
