"""Logs and audits on a geth that limits ranges and keeps the state of about 128 blocks."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from auditor.check_result import CheckResult
from auditor.replay import Audit
from chain.events import Funded, read_events
from chain.federation import Federation
from contracts.enums import Status
from ethereum.rpc import RpcProvider, connect
from protocol.errors import Unavailable
from tests.real.geth import running_geth
from tests.world import World

LIMIT: Final = 5
WAIT_S: Final = 600.0  # 128 blocks of a second, on a machine that has other things to do


def wait_until(is_so: Callable[[], bool]) -> None:
    give_up = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.5)


def test_a_limit_on_ranges_costs_few_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = RpcProvider._ask_once

    def count(provider: RpcProvider, method: Any, params: Any) -> Any:
        asked.append(method)
        return real(provider, method, params)

    monkeypatch.setattr(RpcProvider, "_ask_once", count)
    with running_geth("--rpc.rangelimit", str(LIMIT)) as url, World(tmp_path, rpc_url=url) as world:
        w3 = connect(url)
        wait_until(lambda: w3.eth.block_number >= 20 * LIMIT)
        head = w3.eth.block_number
        for _ in range(2):
            asked.clear()
            events = read_events(w3, world.address, 0, head)
            assert sum(isinstance(event, Funded) for event in events) == 1
            assert asked.count("eth_getLogs") <= 1.15 * (head / LIMIT) + 2


def test_audits_outlast_the_state_of_the_block_they_began_at(tmp_path: Path) -> None:
    with running_geth() as url, World(tmp_path, rpc_url=url, challenge_seconds=2) as world:
        round_id = world.open_round()
        world.commit_and_reveal(round_id)
        world.aggregator.propose(round_id)
        wait_until(lambda: world.client().status(round_id) is Status.SETTLEABLE)
        world.aggregator.settle(round_id)
        assert world.client().status(round_id) is Status.FINALIZED
        begun = Audit(world.client(), world.store, tmp_path / "begun")
        run = begun.run()
        lines: list[CheckResult] = [next(run)]
        only_looked = Audit(world.client(), world.store, tmp_path / "looked")
        first_block = only_looked.block
        wait_until(lambda: is_state_gone(world.client(), first_block))
        lines += run
        lines += only_looked.run()
    assert [line.line() for line in lines if not line.passed] == []
    assert begun.block <= first_block < only_looked.block


def is_state_gone(federation: Federation, block: int) -> bool:
    try:
        federation.round_count(block)
    except Unavailable:
        return True
    return False
