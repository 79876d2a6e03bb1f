"""The aggregator's own store fails while it screens: that is no fault of any participant.

A row each of "whose store fails, when, who loses what": nobody honest loses anything while there
is time to recover, and a proposal is never late for it.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from contracts.enums import Status
from protocol.checks import Check
from protocol.errors import Unavailable
from rounds.rebuild import obtain_model
from storage.ipfs import ContentStore
from tests.storage.lying_proxy import LyingProxy
from tests.world import World

pytestmark = pytest.mark.long

Answer = tuple[int, dict[str, str], bytes]
Fault = Callable[[str], Answer | None]
_JSON = {"Content-Type": "application/json"}


def says(text: str, *commands: str) -> Fault:
    """Return a fault of a daemon that answers so to these commands, or to all."""
    answer = (500, _JSON, b'{"Message":"%s","Code":0,"Type":"error"}' % text.encode())
    return lambda command: answer if not commands or command in commands else None


# As a real Kubo says it.
DISK_FULL = says(
    "write /data/blocks/.temp/batch-1: no space left on device", "block/put", "block/get"
)
WRITES_FAIL = says("write /data/blocks/x: no space left on device", "block/put", "pin/add")
OFFLINE = says("block was not found locally (offline): ipld: could not find it", "block/get")
FORBIDDEN = says("403 - Forbidden, the RPC needs an authorization")


class Stage:
    """A round that waits for its screening, and the daemon of the aggregator alone."""

    def __init__(self, world: World, proxy: LyingProxy) -> None:
        self.world, self.proxy = world, proxy
        self._forward = proxy.forward
        self.fault: Fault = lambda command: None
        proxy.forward = self.forward  # type: ignore[method-assign]
        world.aggregator.store = ContentStore(proxy.url, timeout_s=2)
        self.round_id = world.open_round()
        world.commit_and_reveal(self.round_id)
        self.waited = 0

    def forward(self, path: str, body: bytes, content_type: str) -> Answer:
        command = path.partition("?")[0].removeprefix("/api/v0/")
        return self.fault(command) or self._forward(path, body, content_type)

    def mend_after(self, looks: int) -> None:
        """Mend the daemon when the aggregator has waited so often."""

        def wait() -> None:
            self.waited += 1
            if self.waited >= looks:
                self.fault = lambda command: None

        self.world.aggregator.wait = wait

    def said(self, phase: str) -> list[dict[str, Any]]:
        return [each for each in self.world.reports if each["phase"] == phase]


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with World(tmp_path) as world, LyingProxy(world.daemon.url) as proxy:
        yield Stage(world, proxy)


@pytest.mark.parametrize("fault", [DISK_FULL, OFFLINE, FORBIDDEN], ids=["full", "offline", "403"])
def test_nobody_is_rejected_while_the_own_store_is_down(stage: Stage, fault: Fault) -> None:
    commands = itertools.count()

    def during(command: str) -> Answer | None:
        # The model came; what fails is an update, after the first block of one.
        return fault(command) if next(commands) > 8 else None

    stage.fault = during
    stage.mend_after(2)
    stage.world.aggregator.propose(stage.round_id)
    assert stage.waited == 2
    assert stage.world.rejections() == {}
    assert len(stage.said("accepted")) == 3
    (told,) = stage.said("waiting for the own store")  # once, however often it looks
    assert "\n" not in told["reason"]


def test_a_store_that_stays_down_does_not_cost_the_proposal(stage: Stage) -> None:
    world = stage.world
    now = world.client().now()
    obtain_model(world.aggregator._context(now, stage.round_id))  # as kept from the round before
    stage.fault = OFFLINE
    left = now.terms().windows.propose_seconds
    deadline = now.get_round(stage.round_id).propose_deadline

    def wait() -> None:
        stage.waited += 1
        world.travel(left // 8)

    world.aggregator.wait = wait
    world.aggregator.propose(stage.round_id)
    assert stage.waited >= 3
    assert len(stage.said("waiting for the own store")) == 1
    assert {check for check, _ in world.rejections().values()} == {Check.REACHABLE}
    # With half of the phase left.
    assert deadline - world.client().next_time() > left // 4
    assert world.told(stage.round_id).proposed is not None


def test_a_model_that_the_store_does_not_take_waits_until_it_does(stage: Stage) -> None:
    stage.fault = WRITES_FAIL
    with pytest.raises(Unavailable, match="no space left"):
        stage.world.aggregator.propose(stage.round_id)
    assert stage.world.told(stage.round_id).proposed is None
    stage.fault = lambda command: None
    stage.world.aggregator.propose(stage.round_id)  # as the loop does after a pause
    assert stage.world.rejections() == {}
    assert stage.world.store.has(stage.world.proposal(stage.round_id).manifest)


def test_a_model_that_the_store_never_takes_does_not_cost_the_bond(stage: Stage) -> None:
    """Near the deadline it is proposed regardless: whoever does not find it computes it."""
    world = stage.world
    stage.fault = WRITES_FAIL
    window = world.client().terms().windows.propose_seconds
    world.aggregator.wait = lambda: world.travel(window // 8)
    while world.told(stage.round_id).proposed is None:
        with suppress(Unavailable):  # as the loop does, which pauses meanwhile
            world.aggregator.propose(stage.round_id)
        world.travel(window // 8)
    proposed = world.proposal(stage.round_id)
    assert world.rejections() == {}
    assert len(stage.said("accepted")) >= 3
    assert stage.said("not kept")
    assert not world.store.has(proposed.manifest)
    assert [check.line() for check in world.audit() if check.failed] == []
    # The store comes back, and shows it after all.
    stage.fault = lambda command: None
    world.aggregator.respond(stage.round_id)
    assert world.store.has(proposed.manifest)
    assert world.settle(stage.round_id) is Status.FINALIZED
    assert world.play() is Status.FINALIZED


def test_one_author_who_withholds_is_rejected_at_once(stage: Stage) -> None:
    world = stage.world
    told = world.told(stage.round_id)
    ann = next(r for r in told.reveals if r.participant == world.address_of("ann"))
    world.withhold(ann.manifest)
    stage.mend_after(1)
    world.aggregator.propose(stage.round_id)
    assert stage.waited == 0
    assert {name: check for name, (check, _) in world.rejections().items()} == {"ann": 1}


def test_when_nothing_comes_from_anybody_it_is_tried_again(stage: Stage) -> None:
    """The store works, and reaches nobody: as after a restart, before its peers are back."""
    world = stage.world
    reveals = world.told(stage.round_id).reveals
    kept = {each.manifest: world.store.get_block(each.manifest) for each in reveals}
    world.store.remove_blocks(kept)

    def wait() -> None:
        stage.waited += 1
        if stage.waited == 2:
            world.store.put_blocks(kept.values())

    world.aggregator.wait = wait
    world.aggregator.propose(stage.round_id)
    assert stage.waited == 2
    assert world.rejections() == {}
    assert len(stage.said("waiting for the own store")) == 1


def test_the_only_author_is_waited_for_a_few_times(tmp_path: Path) -> None:
    with World(tmp_path, names=("ann",)) as world, LyingProxy(world.daemon.url) as proxy:
        stage = Stage(world, proxy)
        (reveal,) = world.told(stage.round_id).reveals
        world.withhold(reveal.manifest)
        stage.mend_after(99)
        world.aggregator.propose(stage.round_id)
        assert stage.waited == 3
        assert world.rejections()["ann"][0] == Check.REACHABLE
