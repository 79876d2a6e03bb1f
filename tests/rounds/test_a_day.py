"""A day of a participant whose node allows five requests a second and logs of 1,000 blocks.

Time is the chain's: whatever waits moves its clock. The other participants and the aggregator act
once a minute, by a node of their own. A minute has one block, not five, which anvil would take long
to mine; so a provider's usual 10,000 blocks are 1,000 here.
"""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest

from chain.events import Paid, Penalized
from chain.federation import Federation
from contracts.enums import Status
from ethereum import rpc
from ethereum.rpc import connect
from node.follower import Follower
from node.participant import Participant
from runtime import service as service_module
from runtime.service import Service, Stop
from tests.ethereum.anvil import running_anvil
from tests.faults.lines import RpcLine
from tests.rounds.test_roles import Ledger
from tests.world import SyntheticTrainer, World

_DAY_S: Final = 24 * 3600
_ROUND_EVERY_S: Final = 4 * 3600
_ROUNDS: Final = 6
_BLOCK_S: Final = 60
_REQUESTS_A_SECOND: Final = 5
_MOST_BLOCKS: Final = 1000
_TOO_MANY: Final = b'{"jsonrpc": "2.0", "id": 1, "error": {"code": -32005, "message": '
_TOO_LONG: Final = _TOO_MANY + b'"query exceeds max block range 1000"}}'


class Day:
    """A clock in place of `time`: who sleeps moves the chain's. The others act once a minute."""

    def __init__(self, world: World, ledger: Ledger) -> None:
        self.world, self.ledger = world, ledger
        self.seconds = 0.0
        self._mined = self._minutes = 0
        self._opened = 0
        self._aggregator = ledger.leader.aggregator
        self._aggregator.wait = world.mine
        self._federation = world.client()

    def monotonic(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        """Let a time pass; raises Stop when the day is over."""
        end = self.seconds + seconds
        while self.seconds < end:
            self.seconds = min(end, 60.0 * (self._minutes + 1))
            self._mine()
            if self.seconds >= 60 * (self._minutes + 1):
                self._minutes += 1
                self._let_others_act()
        if self.seconds >= _DAY_S:
            raise Stop

    def _mine(self) -> None:
        due = int(self.seconds / _BLOCK_S) - self._mined
        if due:
            mine(self.world, due)
            self._mined += due

    def _let_others_act(self) -> None:
        newest = self._federation.round_count()
        status = self._federation.status(newest) if newest else Status.NONE
        match status:
            case Status.SEED:
                self._aggregator.fix_seed(newest)
            case Status.COMMIT | Status.REVEAL:
                self.ledger.look()
            case Status.PROPOSE:
                self._aggregator.propose(newest)
            case Status.SETTLEABLE:
                self._aggregator.settle(newest)
            case _ if status.is_ended or status is Status.NONE:
                if self.seconds >= _ROUND_EVERY_S * self._opened + 1800:
                    self._opened += 1
                    self._aggregator.next_round()


def mine(world: World, blocks: int) -> None:
    """Mine blocks at their usual distance; a transaction's own comes a second after the last one.

    Without this machine's clock: by that, as anvil has it else, the chain would run ahead of the
    day by as long as the test takes, and the slower the machine, the more would be asked.
    """
    ask: Any = world.w3.provider.make_request
    ask("anvil_setBlockTimestampInterval", [_BLOCK_S])
    ask("anvil_mine", [hex(blocks)])
    ask("anvil_setBlockTimestampInterval", [1])


class Metered(RpcLine):
    """A node behind a provider's limits, by the clock of the day."""

    def __init__(self, upstream_url: str, day: Day) -> None:
        super().__init__(upstream_url, "127.0.0.1", lambda *at: True)
        self.day = day
        self.answered: Counter[int] = Counter()  # by minute
        self.refused = 0
        self._tokens, self._at = float(_REQUESTS_A_SECOND), 0.0

    def answer(self, body: bytes) -> tuple[int, bytes] | None:
        now = self.day.seconds
        gained = (now - self._at) * _REQUESTS_A_SECOND
        self._tokens, self._at = min(self._tokens + gained, _REQUESTS_A_SECOND), now
        if self._tokens < 1:
            self.refused += 1
            return 429, b"slow down"
        self._tokens -= 1
        self.answered[int(now) // 60] += 1
        request = json.loads(body)
        if request["method"] == "eth_getLogs" and _blocks(request["params"][0]) > _MOST_BLOCKS:
            return 200, _TOO_LONG
        return super().answer(body)

    def requests(self, minutes: Iterable[int]) -> int:
        return sum(self.answered[minute] for minute in minutes)


def _blocks(query: dict[str, Any]) -> int:
    return int(query["toBlock"], 16) - int(query["fromBlock"], 16) + 1


@pytest.mark.slow
def test_no_duty_is_missed_and_idle_hours_cost_a_request_in_ten_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows: dict[str, Any] = {
        "commit_seconds": 3600,
        "reveal_seconds": 1800,
        "propose_seconds": 1800,
        "challenge_seconds": 3600,
        "unbonding_seconds": 8 * 3600,
    }
    with (
        running_anvil("--slots-in-an-epoch", "1", "--prune-history", "64") as url,
        World(tmp_path, rounds=_ROUNDS + 1, rpc_url=url, **windows) as world,
    ):
        # The federation is older than a page of logs.
        mine(world, _MOST_BLOCKS + 100)
        ledger = Ledger(world)
        del ledger.followers["ann"]
        day = Day(world, ledger)
        with Metered(world.rpc_url, day) as line:
            for module in (rpc, service_module):
                monkeypatch.setattr(module, "time", day)
            with pytest.raises(Stop):
                _follow(world, ledger, line, day)
        # Every duty was done, although the node refused requests.
        ann = world.address_of("ann")
        events = world.client().read_events()
        paid = [each.round for each in events if isinstance(each, Paid) and each.participant == ann]
        assert paid == list(range(1, _ROUNDS + 1))
        assert not [each for each in events if isinstance(each, Penalized)]
        assert line.refused > 0
        # What it cost: with rounds, and in the hours between them.
        idle = [
            minute
            for opened in range(1800, _DAY_S - _ROUND_EVERY_S, _ROUND_EVERY_S)
            for minute in range((opened + 9000) // 60, (opened + _ROUND_EVERY_S) // 60 - 1)
        ]
        seconds = 60 * len(idle)
        assert seconds > 7 * 3600
        print(f"{line.answered.total()} requests, {line.refused} more refused;")
        print(f"{line.requests(idle)} of them in {seconds} s between rounds")
        assert line.requests(idle) <= seconds / 10
        assert line.answered.total() <= _DAY_S / 5


def _follow(world: World, ledger: Ledger, line: Metered, day: Day) -> None:
    w3 = connect(line.url)
    federation = Federation(
        w3, world.address, world.wallets["ann"], deployment_block=world.deployment_block
    )
    service = Service(ledger.reporter("ann"), poll_seconds=2.0)
    service._wait = day.sleep  # type: ignore[method-assign]
    service.shortest_phase_s = federation.terms().windows.shortest_seconds
    trainer = SyntheticTrainer("ann", 10)
    participant = Participant(
        federation, world.store, trainer, world.folder / "ann", service.report
    )
    service.keep(Follower(participant, ledger.settings()).step)
