"""Audits on nodes as they are: slow to serve, behind with their logs, without the state of old
blocks, reorganised. An honest federation never fails; what could not be checked has exit code 3.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from eth_utils.crypto import keccak

from auditor.check_result import CheckResult
from auditor.replay import Audit, ChainChanged
from auditor.watch import Watcher
from chain.federation import Federation
from commonweight.cli import main
from contracts.enums import Status
from ethereum.rpc import connect
from protocol.types import RoundId
from tests.chain.stage import ask
from tests.ethereum.scripted_node import Reply, Request, forward, refusal, scripted_node
from tests.world import World

Bend = Callable[[Request], Reply]
GONE = refusal(-32000, "historical state 0x1234 is not available")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auditor.replay._PAUSES_S", (0.0, 0.0, 0.0))
    monkeypatch.setattr("chain.log_pages._PAUSES_S", (0.0, 0.0))


def audited(world: World, bend: Bend, *arguments: str) -> Result:
    """Audit through a node that bends what the world's chain says."""
    with scripted_node(bend) as node:
        endpoints = ["--rpc", node.url, "--ipfs", world.daemon.url, "--no-cache"]
        command = ["audit", "run", world.address, *endpoints, *arguments]
        done = CliRunner().invoke(main, command)
    assert isinstance(done.exception, SystemExit | None), done.exception
    return done


@contextmanager
def client_through(world: World, bend: Bend) -> Iterator[Federation]:
    with scripted_node(bend) as node:
        w3 = connect(node.url)
        yield Federation(w3, world.address, deployment_block=world.deployment_block)


def assert_could_not_check(done: Result, why: str) -> None:
    assert done.exit_code == 3, done.output
    assert "FAIL" not in done.output
    assert re.search(why, done.output)


def block_of_call(request: Request) -> str:
    return str(request["params"][1]) if request["method"] == "eth_call" else ""


# ------------------------------------------------------------------------------ limited, foreign


def test_a_limited_rate_slows_an_audit_down(played: World) -> None:
    asked: list[Request] = []

    def bend(request: Request) -> Reply:
        asked.append(request)
        limited = len(asked) % 7 == 0
        return Reply(b"", 429) if limited else forward(played.rpc_url, request)

    done = audited(played, bend)
    assert done.exit_code == 0, done.output
    assert len(asked) > 14  # and several were refused


def test_a_node_that_gives_up_is_no_failed_check(played: World) -> None:
    def bend(request: Request) -> Reply:
        limited = request["method"] == "eth_getLogs"
        refused = Reply(b"", 429, {"Retry-After": "900"})
        return refused if limited else forward(played.rpc_url, request)

    done = audited(played, bend)
    assert_could_not_check(done, "error: could not check: .* limits the rate of requests")
    assert len(done.stderr.splitlines()) == 1


def test_a_chain_with_signed_blocks(played: World) -> None:
    def bend(request: Request) -> Reply:
        reply = forward(played.rpc_url, request)
        if request["method"] == "eth_getBlockByNumber":
            body: Any = reply.body
            body["result"]["extraData"] = "0x" + "ab" * 97
        return reply

    done = audited(played, bend)
    assert done.exit_code == 0, done.output


# ------------------------------------------------------------------------------- other contents


def with_headers(world: World, change: Callable[[dict[str, Any]], None]) -> Bend:
    """Return a node whose headers are changed."""

    def bend(request: Request) -> Reply:
        reply = forward(world.rpc_url, request)
        if request["method"] == "eth_getBlockByNumber":
            body: Any = reply.body
            change(body["result"])
        return reply

    return bend


@pytest.mark.parametrize("field", ["hash", "mixHash"])
def test_a_node_with_other_headers_accuses_nobody(played: World, field: str) -> None:
    seeded = [told.seeded for told in played.client().history().rounds.values()]
    blocks = [event.block_number for event in seeded if event is not None]
    if field == "hash":
        rounds = played.client().history().rounds.values()
        blocks = [told.opened.opened_block for told in rounds]

    def change(header: dict[str, Any]) -> None:
        if int(header["number"], 16) in blocks:
            header[field] = "0x" + "ab" * 32

    done = audited(played, with_headers(played, change))
    assert_could_not_check(done, r"could not check: the contract has seed [0-9a-f]{64}, but the")
    assert done.output.count("ask another node") == len(blocks) == 2


def test_where_a_block_has_a_difficulty_it_is_what_the_contract_drew(played: World) -> None:
    """As on Clique, BSC and Polygon, where the header's mixHash is nothing or something else."""

    def change(header: dict[str, Any]) -> None:
        header["difficulty"] = hex(int(header["mixHash"], 16))
        header["mixHash"] = "0x" + "00" * 32

    done = audited(played, with_headers(played, change))
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("name", ["seed", "model root", "model manifest"])
def test_logs_that_say_something_else_than_the_contract(played: World, name: str) -> None:
    told = played.told(RoundId(1))
    assert told.seeded is not None
    assert told.proposed is not None
    true = {
        "seed": told.seeded.seed,
        "model root": told.proposed.root,
        "model manifest": told.proposed.manifest,
    }[name].hex()

    def keep(logs: list[Any]) -> list[Any]:
        return list(json.loads(json.dumps(logs).replace(true, "ab" * 32)))

    done = audited(played, with_logs(played, keep))
    words = f"the node's logs up to block .* give round 1 the {name} {'ab' * 32}, the contract"
    assert_could_not_check(done, f"{words} {true}")


# ---------------------------------------------------------------------------------- fewer logs


def with_logs(world: World, keep: Callable[[list[Any]], list[Any]]) -> Bend:
    """Return a node that gives only those logs that `keep` returns."""

    def bend(request: Request) -> Reply:
        reply = forward(world.rpc_url, request)
        if request["method"] == "eth_getLogs":
            body: Any = reply.body
            body["result"] = keep(body["result"])
        return reply

    return bend


def last_block(logs: list[Any]) -> int:
    return max(int(log["blockNumber"], 16) for log in logs)


def without(event: str) -> Callable[[list[Any]], list[Any]]:
    """Leave out the last log of a kind."""
    signatures = {
        "Joined": "Joined(address,uint256)",
        "Funded": "Funded(address,uint256)",
        "Paid": "Paid(uint256,address,uint256)",
        "Revealed": "Revealed(uint256,address,bytes32,bytes32,uint256,bytes32)",
    }

    def keep(logs: list[Any]) -> list[Any]:
        topic = "0x" + keccak(text=signatures[event]).hex()
        # A node that is slow is asked for fewer blocks at once, which may have none.
        gone = [log for log in logs if log["topics"][0] == topic][-1:]
        return [log for log in logs if log not in gone]

    return keep


FEWER: dict[str, Callable[[list[Any]], list[Any]]] = {
    "an index that is behind": lambda logs: [
        log for log in logs if int(log["blockNumber"], 16) <= last_block(logs) - 3
    ],
    "an answer cut short": lambda logs: logs[:12],
    "nothing": lambda logs: [],
    "without a payment": without("Paid"),
    "without money that came": without("Funded"),
}


@pytest.mark.parametrize("fewer", FEWER)
def test_missing_logs_are_no_fault_of_the_federation(played: World, fewer: str) -> None:
    done = audited(played, with_logs(played, FEWER[fewer]))
    assert_could_not_check(done, r"the node does not have all logs of block \d+")


def test_an_index_that_catches_up_is_waited_for(played: World) -> None:
    left = [FEWER["an index that is behind"]] * 2

    def keep(logs: list[Any]) -> list[Any]:
        return left.pop()(logs) if left else logs

    done = audited(played, with_logs(played, keep))
    assert done.exit_code == 0, done.output


def test_missing_logs_are_not_kept(played: World, tmp_path: Path) -> None:
    with scripted_node(with_logs(played, FEWER["without money that came"])) as node:
        endpoints = ["--rpc", node.url, "--ipfs", played.daemon.url]
        options = ["--cache", str(tmp_path), "--confirmations", "0"]
        command = ["audit", "run", played.address, *endpoints, *options]
        assert CliRunner().invoke(main, command).exit_code == 3
    assert list(tmp_path.rglob("round-*.json"))
    assert not list(tmp_path.rglob("events-*.jsonl"))


# ------------------------------------------------------------------------------------ old state


def test_no_state_is_read_once_the_checks_begin(played: World, tmp_path: Path) -> None:
    """However long an audit takes, a full node has all that it still asks for."""
    is_gone = False

    def bend(request: Request) -> Reply:
        return GONE if is_gone and block_of_call(request) else forward(played.rpc_url, request)

    with client_through(played, bend) as client:
        lines: list[CheckResult] = []
        for line in Audit(client, played.store, tmp_path).run():
            is_gone = True
            lines.append(line)
    assert lines
    assert [line.line() for line in lines if not line.passed] == []


def test_a_node_that_goes_away_takes_nothing_but_seeds_and_tokens(
    played: World, tmp_path: Path
) -> None:
    is_gone = False

    def bend(request: Request) -> Reply:
        return Reply(b"", 503) if is_gone else forward(played.rpc_url, request)

    with client_through(played, bend) as client:
        lines: list[CheckResult] = []
        for line in Audit(client, played.store, tmp_path).run():
            is_gone = True
            lines.append(line)
    unchecked = [("§8", None), ("§8", None), ("§9", None)]
    assert [(line.section, line.passed) for line in lines if not line.passed] == unchecked
    assert {line.round_id for line in lines} == {None, 1, 2}


def test_a_block_whose_state_is_gone_is_left_for_a_newer_one(
    played: World, fresh: list[CheckResult], tmp_path: Path
) -> None:
    """Reading the logs took longer than the node keeps the state of the block that was latest."""
    head = played.w3.eth.block_number
    heads = [head, head - 2]
    old = hex(head - 2)
    calls: list[str] = []
    is_gone = False

    def bend(request: Request) -> Reply:
        if request["method"] == "eth_blockNumber":
            number = heads.pop() if len(heads) > 1 else heads[0]
            return Reply({"id": 1, "jsonrpc": "2.0", "result": hex(number)})
        calls.append(block_of_call(request))
        # Its rounds can be read, what it owes no longer.
        return (
            GONE if is_gone and block_of_call(request) == old else forward(played.rpc_url, request)
        )

    with client_through(played, bend) as client:
        audit = Audit(client, played.store, tmp_path)
        assert audit.block == head - 2
        is_gone = True
        assert list(audit.run()) == fresh
    assert audit.block == head
    assert calls.count(old) > 3


def test_logs_are_read_on_from_where_they_were(played: World, tmp_path: Path) -> None:
    head = played.w3.eth.block_number
    heads, ranges = [head, head - 2], []

    def bend(request: Request) -> Reply:
        if request["method"] == "eth_blockNumber":
            number = heads.pop() if len(heads) > 1 else heads[0]
            return Reply({"id": 1, "jsonrpc": "2.0", "result": hex(number)})
        if request["method"] == "eth_getLogs":
            (query,) = request["params"]
            ranges.append((int(query["fromBlock"], 16), int(query["toBlock"], 16)))
        gone = block_of_call(request) == hex(head - 2)
        return GONE if gone else forward(played.rpc_url, request)

    with client_through(played, bend) as client:
        assert Audit(client, played.store, tmp_path).block == head
    assert ranges == [(played.deployment_block, head - 2), (head - 1, head)]


def test_what_is_held_is_not_checked_without_state(played: World) -> None:
    token = played.token.address.lower()

    def bend(request: Request) -> Reply:
        asks_token = block_of_call(request) and request["params"][0]["to"].lower() == token
        return GONE if asks_token else forward(played.rpc_url, request)

    done = audited(played, bend)
    assert_could_not_check(done, "could not check: .* historical state 0x1234 is not available")
    assert re.search(r"\d+ checks, 0 failed, 1 could not be made, at block", done.stdout)
    assert done.stdout.count("\nok ") + 1 > 20


# ------------------------------------------------------------------------------- reorganisations


def test_a_reorganisation_that_undoes_nothing_is_no_matter(tmp_path: Path) -> None:
    with World(tmp_path) as world:
        world.play()
        snapshot = ask(world.w3, "evm_snapshot")
        world.travel(10)
        audit = Audit(world.client(), world.store, tmp_path / "audit")
        before = audit.block_hash
        lines: list[CheckResult] = []
        for line in audit.run():
            if not lines:
                ask(world.w3, "evm_revert", snapshot)
                world.travel(3000)
            lines.append(line)
    assert [line.line() for line in lines if not line.passed] == []
    assert audit.block_hash != before


def undo_a_round(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo the second round while an audit fetches, once, and go on otherwise."""
    snapshot = ask(world.w3, "evm_snapshot")
    world.play()
    left = [snapshot]
    real = Audit._check_held_out

    def meanwhile(audit: Audit, spec: Any) -> CheckResult:
        if left:
            ask(world.w3, "evm_revert", left.pop())
            world.travel(3000)
        return real(audit, spec)

    monkeypatch.setattr(Audit, "_check_held_out", meanwhile)


def test_an_audit_of_what_is_undone_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with World(tmp_path) as world:
        world.play()
        undo_a_round(world, monkeypatch)
        with pytest.raises(ChainChanged, match="no longer on the chain"):
            list(Audit(world.client(), world.store, tmp_path / "audit").run())


def test_the_program_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with World(tmp_path) as world:
        world.play()
        undo_a_round(world, monkeypatch)
        done = audited(world, lambda request: forward(world.rpc_url, request))
    assert done.exit_code == 0, done.output
    assert done.stderr.count("beginning again: block") == 1
    assert "round 2" not in done.stdout.split("rounds")[0].rpartition("the spec is the one")[2]


# -------------------------------------------------------------------------------------- watching


class Watched:
    """A watcher that notes what it reports."""

    def __init__(self, client: Federation, world: World, folder: Path) -> None:
        self.lines: list[str] = []
        self.watcher = Watcher(client, world.store, folder, self.lines.append)

    def look(self) -> list[str]:
        """Return what it reports now."""
        known = len(self.lines)
        self.watcher.look()
        return self.lines[known:]


RIGHT = "round 1: verdicts and model are as the contract would have them"


def test_a_watcher_waits_for_logs(tmp_path: Path) -> None:
    with World(tmp_path, challenge_seconds=600) as world:
        world.commit_and_reveal(world.open_round())
        world.aggregator.propose(world.client().round_count())
        is_behind = True

        def keep(logs: list[Any]) -> list[Any]:
            return logs[:-1] if is_behind else logs

        with client_through(world, with_logs(world, keep)) as client:
            watched = Watched(client, world, tmp_path / "watch")
            (line,) = watched.look()
            assert "trying again: the node does not have all logs of block" in line
            world.travel(1)
            assert watched.look() == []  # said already, of another block
            is_behind = False
            assert watched.look() == [RIGHT]


def test_a_watcher_finds_a_round_that_a_reorganisation_moved(tmp_path: Path) -> None:
    with World(tmp_path, challenge_seconds=600) as world:
        snapshot = ask(world.w3, "evm_snapshot")
        world.travel(1)
        world.travel(1)
        world.open_round()
        watched = Watched(world.client(), world, tmp_path / "watch")
        assert watched.look() == []
        ask(world.w3, "evm_revert", snapshot)
        world.restart_aggregator()
        world.commit_and_reveal(world.open_round())
        world.aggregator.propose(world.client().round_count())
        reported = [line for _ in range(3) for line in watched.look()]
        assert reported[-1] == RIGHT


def test_a_watcher_does_not_judge_what_its_audit_does_not_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its look and its audit a reorganisation takes the proposal away."""
    with World(tmp_path, challenge_seconds=600) as world:
        round_id = world.open_round()
        world.commit_and_reveal(round_id)
        snapshot = ask(world.w3, "evm_snapshot")
        world.aggregator.propose(round_id)
        watched = Watched(world.client(), world, tmp_path / "watch")
        left = [snapshot]
        real = Watcher._judge

        def judge(watcher: Watcher, pending: Any) -> None:
            if left:
                ask(world.w3, "evm_revert", left.pop())
                world.travel(1)
            real(watcher, pending)

        monkeypatch.setattr(Watcher, "_judge", judge)
        assert watched.look() == []
        assert watched.watcher.judged == set()
        assert world.client().status(round_id) is Status.PROPOSE
