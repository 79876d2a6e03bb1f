"""The dev chain's journal: what it promises after a restart, a torn line and a SIGKILL."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hexbytes import HexBytes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from web3 import Web3
from web3.types import Wei

from chain.devchain import DevChain, dev_account
from chain.devchain.__main__ import main
from chain.devchain.journal import Journal
from chain.devchain.node import Node
from chain.devchain.rpc_error import RpcError
from protocol.errors import Misconfigured

ROOT = Path(__file__).parents[2]
ALICE, BOB = dev_account(0), dev_account(1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "chain.jsonl"


def pay(node: Node, value: int = 1, account: Any = ALICE) -> bytes:
    """Mine a payment to a fresh address and return its hash."""
    state = node.ledger.state_after(node.ledger.head)
    nonce = state.get_nonce(bytes.fromhex(account.address[2:]))
    fields: dict[str, Any] = {"chainId": 31337, "gas": 21_000, "gasPrice": 10**10}
    fields["to"] = BOB.address
    signed = account.sign_transaction({**fields, "nonce": nonce, "value": value})
    return node.submit(bytes(signed.raw_transaction))


def hashes(node: Node) -> list[str]:
    return [block.hash.hex() for block in node.ledger.blocks]


class TestReplay:
    def test_a_restarted_chain_is_the_same(self, path: Path) -> None:
        with DevChain(path) as chain:
            w3 = Web3(Web3.HTTPProvider(chain.url))
            logs, reverts = bytes.fromhex("5f5fa0"), bytes.fromhex("5f5ffd")
            w3.eth.send_transaction({"from": ALICE.address, "data": logs})
            w3.eth.send_transaction({"from": BOB.address, "data": reverts, "gas": 100_000})
            w3.provider.make_request("evm_increaseTime", [500])  # type: ignore[arg-type]
            w3.provider.make_request("evm_mine", [])  # type: ignore[arg-type]
            w3.eth.send_transaction({"from": ALICE.address, "to": BOB.address, "value": Wei(9)})
            before = everything(w3)
        with DevChain(path) as chain:
            w3 = Web3(Web3.HTTPProvider(chain.url))
            assert everything(w3) == before
            assert before["head"] == 4
            w3.eth.send_transaction({"from": ALICE.address, "to": BOB.address, "value": Wei(9)})
            assert w3.eth.block_number == 5

    def test_rewound_blocks_stay_away(self, path: Path) -> None:
        node = Node(path)
        pay(node, 1)
        snapshot = node.take_snapshot()
        dropped = pay(node, 2)
        assert node.revert(snapshot)
        assert node.ledger.transaction(dropped) is None
        assert not node.revert(snapshot)
        kept = pay(node, 3)
        expected = hashes(node)
        node.close()
        again = Node(path)
        assert hashes(again) == expected
        assert again.ledger.transaction(dropped) is None
        assert again.ledger.transaction(kept) is not None
        again.close()

    def test_the_clock_keeps_its_offset(self, path: Path) -> None:
        node = Node(path, wall=lambda: 1_000_000.0)
        assert node.increase_time(3_600) == 3_601  # counted from the block after the genesis
        node.close()
        again = Node(path, wall=lambda: 1_000_100.0)
        assert again.next_header().timestamp == 1_003_701
        again.set_next_timestamp(1_009_000)
        again.mine()
        again.close()
        third = Node(path, wall=lambda: 1_000_200.0)
        assert third.next_header().timestamp == 1_009_100
        third.close()

    def test_another_chain_id_is_refused(self, path: Path) -> None:
        Node(path, 31337).close()
        with pytest.raises(Misconfigured, match="chain_id is 31337, this chain has 5"):
            Node(path, 5)

    def test_a_changed_record_is_noticed(self, path: Path) -> None:
        node = Node(path)
        pay(node)
        pay(node)
        node.close()
        lines = path.read_text().splitlines()
        record = json.loads(lines[1])
        record["timestamp"] += 1
        path.write_text("\n".join([lines[0], json.dumps(record), lines[2], ""]))
        with pytest.raises(Misconfigured, match="block 1 replays as"):
            Node(path)

    def test_a_wrong_sender_in_a_record_is_noticed(self, path: Path) -> None:
        """Replay trusts the recorded sender; the block hash holds it to the truth."""
        node = Node(path)
        pay(node)
        node.close()
        content = path.read_text().replace(ALICE.address[2:].lower(), BOB.address[2:].lower())
        path.write_text(content)
        with pytest.raises(Misconfigured, match="block 1 replays as"):
            Node(path)


def everything(w3: Web3) -> dict[str, Any]:
    """All that a client can read of a chain's past, and the state it ended with."""
    head = w3.eth.block_number
    receipts = [
        w3.provider.make_request("eth_getBlockReceipts", [hex(number)])["result"]  # type: ignore[arg-type]
        for number in range(head + 1)
    ]
    return {
        "head": head,
        "blocks": [dict(w3.eth.get_block(number, True)) for number in range(head + 1)],
        "receipts": receipts,
        "logs": w3.eth.get_logs({"fromBlock": 0, "toBlock": "latest"}),
        "balances": [w3.eth.get_balance(account) for account in w3.eth.accounts],
        "nonces": [w3.eth.get_transaction_count(account) for account in w3.eth.accounts],
    }


class TestFile:
    def test_nothing_is_lost_but_a_torn_last_line(self, path: Path) -> None:
        node = Node(path)
        pay(node)
        expected = hashes(node)
        whole = path.stat().st_size
        pay(node)
        node.close()
        content = path.read_bytes()
        for size in (whole + 1, (whole + len(content)) // 2, len(content) - 1):
            path.write_bytes(content[:size])
            again = Node(path)
            assert hashes(again) == expected
            pay(again, 5)
            assert len(again.ledger.blocks) == 3
            again.close()
            assert path.read_bytes().startswith(content[:whole])
            assert path.read_bytes().endswith(b"\n")

    @settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_any_cut_leaves_whole_records(self, tmp_path: Path, data: Any) -> None:
        path = tmp_path / "cut.jsonl"
        path.unlink(missing_ok=True)
        journal = Journal(path)
        journal.write({"format": "dev-chain-journal/1"})
        for number in range(1, 5):
            journal.write(
                {"block": number, "timestamp": number, "offset": 0, "hash": "", "transactions": []}
            )
        journal.close()
        content = path.read_bytes()
        size = data.draw(st.integers(0, len(content)))
        path.write_bytes(content[:size])
        again = Journal(path)
        history = again.read()
        again.close()
        assert path.read_bytes() == content[: content[:size].rfind(b"\n") + 1]
        assert len(history.blocks) == max(content[:size].count(b"\n") - 1, 0)

    def test_a_broken_line_in_the_middle_is_named(self, path: Path) -> None:
        node = Node(path)
        pay(node)
        pay(node)
        node.close()
        lines = path.read_bytes().splitlines(keepends=True)
        broken = lines[0] + b"oops\n" + lines[2]
        path.write_bytes(broken)
        with pytest.raises(Misconfigured, match="line 2: not a record"):
            Node(path)
        assert path.read_bytes() == broken

    @pytest.mark.parametrize("content", [b"dear diary\n", b"dear diary", b'{"format":"other"}\n'])
    def test_another_file_is_left_alone(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "diary.txt"
        path.write_bytes(content)
        with pytest.raises(Misconfigured, match="is not a dev-chain-journal/1 file"):
            Node(path)
        assert path.read_bytes() == content

    def test_one_chain_at_a_time(self, path: Path) -> None:
        node = Node(path)
        with pytest.raises(Misconfigured, match="in use by another dev chain"):
            Node(path)
        node.close()
        Node(path).close()

    def test_a_block_that_cannot_be_kept_is_undone(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        node = Node(path)
        pay(node)
        size = path.stat().st_size
        expected = hashes(node)

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        node.set_next_timestamp(4_000_000_000)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(RpcError, match="cannot be written: No space left on device"):
                pay(node)
        assert (hashes(node), path.stat().st_size) == (expected, size)
        pay(node)
        assert node.ledger.head.timestamp == 4_000_000_000
        expected = hashes(node)
        node.close()
        again = Node(path)
        assert hashes(again) == expected
        again.close()

    def test_a_folder_is_no_journal(self, tmp_path: Path) -> None:
        with pytest.raises(Misconfigured, match="cannot be opened"):
            Node(tmp_path)


class Process:
    """`python -m chain.devchain` in a process of its own."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "chain.devchain", "--port", "0", *arguments]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        self.process.communicate(timeout=10)
        return self.process.returncode


class TestProcess:
    def test_sigkill_loses_nothing_that_was_acknowledged(self, path: Path) -> None:
        arguments = ["--journal", str(path), "--chain-id", "99"]
        killed = Process(*arguments)
        try:
            timer = threading.Timer(1.0, killed.process.kill)
            timer.start()
            acknowledged = send_until_it_dies(Web3(Web3.HTTPProvider(killed.url)))
            timer.join()
        finally:
            assert killed.end(signal.SIGKILL) == -signal.SIGKILL
        assert acknowledged
        restarted = Process(*arguments)
        try:
            w3 = Web3(Web3.HTTPProvider(restarted.url))
            for sent in acknowledged:
                assert w3.eth.get_transaction_receipt(HexBytes(sent))["status"] == 1
            assert w3.eth.block_number - len(acknowledged) in (0, 1)  # one may be in flight
        finally:
            assert restarted.end(signal.SIGTERM) == 0

    def test_a_mistake_is_one_line(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.txt"
        path.write_text("notes\n")
        done = CliRunner().invoke(main, ["--journal", str(path), "--port", "0"])
        assert (done.exit_code, done.stdout) == (1, "")
        assert done.stderr == (
            f"Error: {path} is not a dev-chain-journal/1 file; it was left as it is\n"
        )


def send_until_it_dies(w3: Web3) -> list[bytes]:
    acknowledged: list[bytes] = []
    fields: dict[str, Any] = {"chainId": 99, "gas": 21_000, "gasPrice": 10**10}
    fields["to"] = BOB.address
    while True:
        signed = ALICE.sign_transaction({**fields, "nonce": len(acknowledged)})
        try:
            acknowledged.append(bytes(w3.eth.send_raw_transaction(signed.raw_transaction)))
        except OSError:  # requests' errors are OSErrors: the process is gone
            return acknowledged
