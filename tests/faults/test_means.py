"""The faults are what they say: a cable that loses packets, a disk that takes no byte more."""

import errno
import json
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from chain.deploy import deploy_token
from devnet.accounts import dev_account
from ethereum.rpc import connect
from ethereum.transactions import Sender
from ethereum.wallet import Wallet
from protocol.errors import Unavailable
from protocol.types import TokenUnits
from tests.ethereum.anvil import shared_anvil
from tests.faults import disk
from tests.faults.hosts import Host, can_make_hosts
from tests.faults.lines import RpcLine
from tests.faults.table import make_table

_DIAL = """
import socket, sys, time
address, port, patience = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
end = time.monotonic() + patience
while True:
    try:
        socket.create_connection((address, port), min(1, patience))
        sys.exit("connected")
    except OSError as error:
        if time.monotonic() > end:
            sys.exit(f"{type(error).__name__}: {error}")
"""


@pytest.mark.skipif(not can_make_hosts(), reason="needs root on Linux")
def test_an_unplugged_cable_is_silent_and_only_that_one() -> None:
    with Host(30, ("rpc", "ipfs")) as host:
        rpc, ipfs = (socket.create_server((host.address(s), 0)) for s in ("rpc", "ipfs"))
        with rpc, ipfs:
            assert _dial(host, rpc) == "connected"
            host.unplug("rpc")
            assert _dial(host, rpc, patience_s=0.5) == "TimeoutError: timed out"
            assert _dial(host, ipfs) == "connected"
            host.plug("rpc")
            assert _dial(host, rpc) == "connected"


def _dial(host: Host, listener: socket.socket, patience_s: float = 30) -> str:
    """Return what became of the wish to connect from the host: a cable just plugged takes time."""
    address, port = listener.getsockname()
    command = ["nsenter", f"--net={host.namespace}", sys.executable, "-c", _DIAL, address, port]
    done = subprocess.run(
        [*map(str, command), str(patience_s)], capture_output=True, text=True, check=False
    )
    return done.stderr.strip()


def test_a_filled_disk_takes_nothing_until_it_is_freed(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    if not disk.mount(folder):
        pytest.skip("needs root on Linux")
    try:
        (folder / "file").write_bytes(b"before")
        disk.fill(folder)
        with pytest.raises(OSError, match="No space left") as full:
            (folder / "other").write_bytes(b"x")
        assert full.value.errno == errno.ENOSPC
        disk.free(folder)
        (folder / "other").write_bytes(b"x")
        assert (folder / "file").read_bytes() == b"before"
    finally:
        disk.unmount(folder)


def test_an_rpc_that_goes_back_in_time_and_one_that_fails() -> None:
    with RpcLine(shared_anvil(), "127.0.0.1", lambda *at: True) as line:
        w3 = connect(line.url, timeout_s=1)
        for _ in range(5):
            w3.provider.make_request("evm_mine", [])  # type: ignore[arg-type]
        now: Any = w3.eth.block_number
        line.bend("stale")
        assert w3.eth.block_number == now - 3
        assert w3.eth.get_block("latest")["number"] == now - 3
        for fault in ("cut", "http 500", "http 429", "garbage"):
            line.bend(fault)
            with pytest.raises(Unavailable):
                connect(line.url, timeout_s=1, patience_s=0.1)
        line.mend()
        assert w3.eth.block_number == now


def test_an_rpc_that_leaves_out() -> None:
    with RpcLine(shared_anvil(), "127.0.0.1", lambda *at: True) as line:
        w3 = connect(line.url, timeout_s=1)
        token = deploy_token(Sender(w3, Wallet.from_key(bytes(dev_account(0).key))), TokenUnits(9))
        (log,) = w3.eth.get_logs({"fromBlock": "latest"})
        hashed = log["transactionHash"].to_0x_hex()
        supply = {"to": token.address, "data": "0x18160ddd"}
        questions: list[tuple[str, str, list[Any], Any]] = [
            ("logs", "eth_getLogs", [{"fromBlock": "latest"}], []),
            ("the last log", "eth_getLogs", [{"fromBlock": "latest"}], []),
            ("receipts", "eth_getTransactionReceipt", [hashed], None),
            ("transactions", "eth_getTransactionByHash", [hashed], None),
            ("blocks", "eth_getBlockByNumber", ["latest", False], None),
            ("values", "eth_call", [supply, "latest"], "0x"),
        ]
        for left_out, method, parameters, instead in questions:
            whole = _ask(line.url, method, *parameters)
            line.bend(f"omits {left_out}")
            assert _ask(line.url, method, *parameters) == instead != whole
            assert _ask(line.url, "eth_chainId") == "0x7a69"
            line.mend()
            assert _ask(line.url, method, *parameters) == whole


def _ask(url: str, method: str, *parameters: object) -> Any:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
    with urlopen(url, json.dumps(request).encode(), timeout=10) as answer:
        return json.load(answer)["result"]


@pytest.mark.parametrize("how", ["drips", "drips headers"])
def test_an_rpc_that_drips_until_it_is_mended(how: str) -> None:
    with RpcLine(shared_anvil(), "127.0.0.1", lambda *at: True) as line:
        line.bend(how)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(_ask, line.url, "eth_chainId")
            assert not wait([asked], timeout=0.5).done
            line.mend()
            assert asked.result(timeout=10) == "0x7a69"


def test_the_table_counts_what_struck_and_what_broke() -> None:
    fault = {"kind": "kill", "detail": "", "target": "ann", "point": "trained"}
    lost = {"kind": "rpc", "detail": "stale", "target": "aggregator", "point": None}
    records = [
        {"seed": 1, "struck": [fault, lost], "broken": ["lost"], "rounds": ["abandoned"]},
        {"seed": 2, "struck": [fault], "broken": [], "rounds": ["finalized", "finalized"]},
    ]
    played = [
        {"seconds": 30, **each, "outcome": {k: each[k] for k in _OUTCOME}} for each in records
    ]
    rows = {row.split(" | ")[0]: row.split(" | ")[1:] for row in make_table(played).splitlines()}
    assert [cell.strip(" |") for cell in rows["| SIGKILL: participant"]][-3:] == ["2", "1", "1"]
    assert [cell.strip(" |") for cell in rows["| RPC: goes back in time"]][-3:] == ["1", "0", "1"]


_OUTCOME = ("broken", "rounds")
