"""Nodes as they are: what they leave out, limit or answer wrongly costs nobody a round.

Each fault is played through a proxy before a real chain: while a participant commits and reveals,
and to an audit.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from auditor.replay import Audit
from chain.federation import Federation
from contracts.enums import Status, SubmissionState
from ethereum.fees import read_head
from ethereum.rpc import connect
from node.participant import Participant
from protocol.errors import CommonweightError, Misconfigured, Unavailable
from storage.ipfs import ContentStore
from tests.ethereum.scripted_node import Reply, Request, forward, refusal, result, scripted_node
from tests.world import SyntheticTrainer, World

Fault = Callable[[Request, int], Reply | None]
"""The answer to a request and its number instead of the true one; None for the true one."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("chain"), rounds=100) as world:
        world.play()
        yield world


def faulty(world: World, fault: Fault, change: Callable[[Request, Any], Any] | None = None) -> Any:
    """The world's chain behind a proxy; `change` may bend true results."""
    numbers = iter(range(10**9))

    def answer(request: Request) -> Reply:
        wrong = fault(request, next(numbers))
        if wrong is not None:
            return wrong
        true = forward(world.rpc_url, request)
        body: Any = true.body
        if change is not None and body.get("result") is not None:
            return result(change(request, body["result"]))
        return true

    return scripted_node(answer)


def no_fault(request: Request, number: int) -> None:
    return None


def without(*methods: str) -> Fault:
    def fault(request: Request, number: int) -> Reply | None:
        return refusal(-32601, "no such method") if request["method"] in methods else None

    return fault


def no_pending(request: Request, number: int) -> Reply | None:
    return refusal(-32602, "invalid block tag") if "pending" in request["params"] else None


def limited(request: Request, number: int) -> Reply | None:
    return Reply(b"", 429, {"Retry-After": "0"}) if number % 7 == 6 else None


def long_extra_data(request: Request, found: Any) -> Any:
    if request["method"] == "eth_getBlockByNumber":
        return {**found, "extraData": "0x" + "ab" * 97}
    return found


def no_effective_price(request: Request, found: Any) -> Any:
    if request["method"] == "eth_getTransactionReceipt":
        return {name: value for name, value in found.items() if name != "effectiveGasPrice"}
    return found


NODES: dict[str, tuple[Fault, Callable[[Request, Any], Any] | None]] = {
    "no tip": (without("eth_maxPriorityFeePerGas"), None),
    "no fee methods": (without("eth_maxPriorityFeePerGas", "eth_feeHistory", "eth_gasPrice"), None),
    "no pending block": (no_pending, None),
    "limited rate": (limited, None),
    "signed blocks": (no_fault, long_extra_data),
    "no effective price": (no_fault, no_effective_price),
}


def ann(world: World, url: str) -> Participant:
    client = Federation(
        connect(url),
        world.address,
        world.wallets["ann"],
        deployment_block=world.deployment_block,
    )
    trainer = SyntheticTrainer("ann", 10)
    return Participant(client, ContentStore(world.daemon.url), trainer, world.folder / "ann")


@pytest.mark.parametrize("node", NODES)
def test_a_round_and_an_audit_on(world: World, node: str, tmp_path: Path) -> None:
    fault, change = NODES[node]
    round_id = world.open_round()
    with faulty(world, fault, change) as served:
        participant = ann(world, served.url)
        participant.commit(round_id)
        for name in ("bob", "cem"):
            world.participants[name].commit(round_id)
        participant.reveal(round_id)
        state = world.client().get_submission(round_id, participant.address).state
        assert state is SubmissionState.REVEALED
        world.ask("reveal", round_id)
        assert world.settle(round_id) is Status.FINALIZED
        client = Federation(
            connect(served.url), world.address, deployment_block=world.deployment_block
        )
        lines = list(Audit(client, ContentStore(world.daemon.url), tmp_path).run())
    assert [line for line in lines if not line.passed] == []


METHODS = (
    "eth_chainId",
    "eth_blockNumber",
    "eth_getBlockByNumber",
    "eth_call",
    "eth_getCode",
    "eth_estimateGas",
    "eth_getTransactionCount",
    "eth_sendRawTransaction",
    "eth_getTransactionReceipt",
    "eth_getLogs",
    "eth_maxPriorityFeePerGas",
)


@pytest.mark.parametrize("wrong", [None, 5, "0x", [], {}, "0x" + "f" * 70], ids=str)
def test_one_wrong_answer_ends_nothing(world: World, wrong: object) -> None:
    """To each method once: the step goes on, or ends in an error of ours and goes well again."""
    round_id = world.open_round()
    left = set(METHODS)

    def once(request: Request, number: int) -> Reply | None:
        if request["method"] not in left:
            return None
        left.discard(request["method"])
        return result(wrong)

    with faulty(world, once) as served:
        for _ in range(2 * len(METHODS)):
            with suppress(CommonweightError):
                participant = ann(world, served.url)
                participant.commit(round_id)
                for name in ("bob", "cem"):
                    world.participants[name].commit(round_id)
                participant.reveal(round_id)
                break
    address = world.address_of("ann")
    assert world.client().get_submission(round_id, address).state is SubmissionState.REVEALED
    world.ask("reveal", round_id)
    assert world.settle(round_id) is Status.FINALIZED


def test_a_chain_before_london_is_named() -> None:
    block = {"number": "0x1", "hash": "0x" + "11" * 32, "timestamp": "0x1"}

    def answer(request: Request) -> Reply:
        return result("0x1" if request["method"] == "eth_chainId" else block)

    with scripted_node(answer) as served, pytest.raises(Misconfigured, match="EIP-1559"):
        read_head(connect(served.url))


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auditor.replay._PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr("chain.log_pages._PAUSES_S", (0.0, 0.0))


@pytest.mark.parametrize("lag", [1, 10])
def test_logs_that_lag_are_no_fraud(world: World, tmp_path: Path, lag: int) -> None:
    """The contract's counts show that logs are missing: nothing is called false."""
    head = int(world.w3.eth.block_number)

    def short(request: Request, found: Any) -> Any:
        if request["method"] != "eth_getLogs":
            return found
        newest = head - lag
        return [log for log in found if int(log["blockNumber"], 16) <= newest]

    with faulty(world, no_fault, short) as served:
        client = Federation(
            connect(served.url), world.address, deployment_block=world.deployment_block
        )
        with pytest.raises(Unavailable, match="does not have all logs"):
            list(Audit(client, ContentStore(world.daemon.url), tmp_path).run())
