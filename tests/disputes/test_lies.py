"""A cheating aggregator for each lie: the auditor finds it, the contract takes the bond for it.

Where the contract cannot settle a lie, the audit reports it and no challenge is sent.
"""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from aggregator import coordinator
from aggregator.layerwise import average_layers as average
from auditor.disputes import Averaged, challenge_open, fetch_averaged, find_fault, watch
from auditor.replay import Audit
from chain.records import AggregatorState, Status
from chain.reverts import Reverted
from commonweight.cli import main
from protocol.checks import Check
from protocol.encoding import STORED
from protocol.quantities import BasisPoints, Digest, RoundId
from protocol.spec import Spec
from storage.files import write_atomically
from storage.ipfs import ContentStore
from storage.layers import LayerFolder, build_manifest
from storage.screening import Screened, screen_reveals
from tests.world import TOKEN, World

BOND = 200 * TOKEN
WINDOW = 600


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with World(tmp_path, challenge_seconds=WINDOW) as world:
        world.stand_by()
        yield world


# ----------------------------------------------------------------------------------- the lies


def bend(folder: LayerFolder, layer: int, place: int, amount: int) -> None:
    path = folder.layer_path(layer)
    values = np.fromfile(path, STORED)
    values[place] += amount
    write_atomically(path, values.tobytes())


def off_by_one(
    spec: Spec, updates: Sequence[LayerFolder], weights: Sequence[int], target: LayerFolder
) -> Digest:
    average(spec, updates, weights, target)
    bend(target, 1, 70, 1)
    return target.root(spec)


def swapped_weights(
    spec: Spec, updates: Sequence[LayerFolder], weights: Sequence[int], target: LayerFolder
) -> Digest:
    return average(spec, updates, [weights[1], weights[0], *weights[2:]], target)


def one_left_out(
    spec: Spec, updates: Sequence[LayerFolder], weights: Sequence[int], target: LayerFolder
) -> Digest:
    return average(spec, updates[:-1], weights[:-1], target)


def one_made_up(
    spec: Spec, updates: Sequence[LayerFolder], weights: Sequence[int], target: LayerFolder
) -> Digest:
    invented = LayerFolder(target.path.parent / "invented")
    invented.write(spec, [np.full(layer.shape, -(2**20), np.int32) for layer in spec.layers])
    return average(spec, [*updates, invented], [*weights, 7], target)


def last_model_again(
    spec: Spec, updates: Sequence[LayerFolder], weights: Sequence[int], target: LayerFolder
) -> Digest:
    target.write(spec, [np.zeros(layer.shape, np.int32) for layer in spec.layers])
    return target.root(spec)


def weights_swapped_in_the_verdicts(decisions: list[Screened]) -> list[Screened]:
    first, second = decisions[0].verdict.weight, decisions[1].verdict.weight
    return [judged(decisions[0], weight=second), judged(decisions[1], weight=first), *decisions[2:]]


def paying_a_friend(decisions: list[Screened]) -> list[Screened]:
    return [decisions[0], *(judged(d, score=BasisPoints(1)) for d in decisions[1:])]


def judged(decision: Screened, **changes: Any) -> Screened:
    return dataclasses.replace(decision, verdict=dataclasses.replace(decision.verdict, **changes))


AVERAGES = [off_by_one, swapped_weights, one_left_out, one_made_up, last_model_again]
VERDICTS = [weights_swapped_in_the_verdicts, paying_a_friend]


def propose_with(world: World, lie: Callable[..., Any]) -> RoundId:
    """Let the lead propose a round in which it tells `lie`."""
    round_id = world.open_round()
    world.commit_and_reveal(round_id)
    with pytest.MonkeyPatch.context() as patch:
        if lie in AVERAGES:
            patch.setattr(coordinator, "average_layers", lambda *a, **_: lie(*a))
        else:
            patch.setattr(coordinator, "screen_reveals", lambda *a: lie(screen_reveals(*a)))
        world.coordinator.propose(round_id)
    return round_id


def auditing(world: World, name: str = "auditor") -> Audit:
    client = world.client(world.auditor)
    return Audit(client, ContentStore(world.daemon.url), world.folder / name)


def finish(world: World, round_id: RoundId) -> None:
    """The standby proposes what is right, and everybody is paid."""
    federation = world.client()
    standby = world.stand_by()
    assert federation.current_aggregator() == world.standby.address
    standby.propose(round_id)
    assert find_fault(auditing(world, "again"), round_id) is None
    world.travel(WINDOW)
    standby.settle(round_id)
    assert federation.status(round_id) is Status.FINALIZED
    reward = 100 * TOKEN + 1
    for name, weight in zip(world.names, (10, 20, 25), strict=True):
        assert federation.credit_of(world.address_of(name)) == reward * weight // 55
    assert federation.credit_of(world.standby.address) == 5 * TOKEN
    assert federation.credit_of(world.aggregator.address) == 0
    lines = world.audit()
    assert [line.line() for line in lines if not line.passed] == []
    assert "§11" in {line.section for line in lines}


def assert_slashed(world: World) -> None:
    federation = world.client()
    assert federation.aggregator_state(world.aggregator.address) is AggregatorState.SLASHED
    assert federation.credit_of(world.auditor.address) == BOND // 2


# --------------------------------------------------------------------------- settled on chain


@pytest.mark.parametrize("lie", [*AVERAGES, *VERDICTS], ids=lambda lie: lie.__name__)
def test_a_lie_costs_the_bond_and_the_standby_finishes(
    world: World, lie: Callable[..., Any]
) -> None:
    round_id = propose_with(world, lie)
    assert any(not line.passed for line in world.audit())
    escrow = world.client().escrow()
    (line,) = challenge_open(auditing(world))
    assert f"{world.aggregator.address} was refuted" in line
    assert_slashed(world)
    assert world.client().escrow() == escrow + BOND // 2
    finish(world, round_id)


def test_the_first_wrong_leaf_is_the_one_proved(world: World) -> None:
    propose_with(world, off_by_one)
    (line,) = challenge_open(auditing(world))
    # Layer 0 has 6 leaves of 16 values; value 70 of layer 1 is in its leaf 4.
    assert "leaf 10 is not the weighted mean of 3 updates" in line


def test_a_lead_that_was_refuted_waits_while_the_standby_plays_on(world: World) -> None:
    round_id = propose_with(world, off_by_one)
    challenge_open(auditing(world))
    assert not world.coordinator.is_leading()
    with pytest.raises(Reverted, match="is not the aggregator"):
        world.coordinator.propose(round_id)
    finish(world, round_id)


def test_without_a_standby_the_round_is_abandoned(tmp_path: Path) -> None:
    with World(tmp_path, challenge_seconds=WINDOW) as world:
        round_id = propose_with(world, off_by_one)
        challenge_open(auditing(world))
        assert_slashed(world)
        assert world.client().status(round_id) is Status.ABANDONED
        assert all(line.passed for line in world.audit())


# --------------------------------------------------------------------- reported, not settled


def assert_reported_only(world: World, words: str) -> None:
    """The audit fails, the auditor says why nothing is sent, and the bond stays."""
    assert any(not line.passed for line in world.audit())
    lines: list[str] = []
    stopped = iter([False, False, True])
    watch(
        world.client(world.auditor),
        ContentStore(world.daemon.url),
        world.folder / "watch",
        lines.append,
        lambda: next(stopped),
    )
    assert any(words in line for line in lines), lines
    state = world.client().aggregator_state(world.aggregator.address)
    assert state is AggregatorState.BONDED


def test_an_update_wrongly_rejected_is_reported(world: World) -> None:
    def unfair(decisions: list[Screened]) -> list[Screened]:
        bent = judged(decisions[0], weight=0, score=BasisPoints(0), reason=Check.NORM)
        return [bent, *decisions[1:]]

    propose_with(world, unfair)
    assert_reported_only(world, "it should have been accepted")


def test_a_manifest_that_names_other_bytes_than_the_root_is_reported(world: World) -> None:
    round_id = world.open_round()
    world.commit_and_reveal(round_id)

    def other(folder: LayerFolder, spec: Spec, subject: Any, root: Digest) -> Any:
        bend(folder, 0, 0, 1)
        return build_manifest(folder, spec, subject, root)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coordinator, "build_manifest", other)
        world.coordinator.propose(round_id)
    assert_reported_only(world, "nothing to show to the contract: ")


def test_withheld_bytes_are_reported(world: World) -> None:
    round_id = world.open_round()
    world.commit_and_reveal(round_id)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coordinator, "pin", lambda store, folder, manifest: manifest.digest())
        world.coordinator.propose(round_id)
    assert_reported_only(world, "nothing to show to the contract: ")


def test_a_watcher_outlives_a_daemon_that_is_down(world: World) -> None:
    propose_with(world, off_by_one)
    lines: list[str] = []
    polls = iter([False, False, True])
    down = ContentStore("http://127.0.0.1:9", timeout_s=1.0)
    client = world.client(world.auditor)
    watch(client, down, world.folder / "watch", lines.append, lambda: next(polls))
    assert len(lines) == 1
    assert lines[0].startswith("cannot judge now, trying again: ")
    store = ContentStore(world.daemon.url)
    watch(client, store, world.folder / "watch", lines.append, lambda: False, once=True)
    assert_slashed(world)


# ------------------------------------------------------------------------------------- honest


def test_no_leaf_of_honest_rounds_can_be_challenged(tmp_path: Path) -> None:
    """15 rounds, every leaf of each against the contract by eth_call: 210 leaves."""
    refused = 0
    with World(tmp_path, challenge_seconds=WINDOW, rounds=15) as world:
        for _ in range(15):
            round_id = world.open_round()
            world.commit_and_reveal(round_id)
            world.coordinator.propose(round_id)
            refused += assert_every_leaf_is_right(world, round_id)
            world.travel(WINDOW)
            world.coordinator.settle(round_id)
    assert refused == 15 * 14


def assert_every_leaf_is_right(world: World, round_id: RoundId) -> int:
    audit = auditing(world)
    history = audit.history(round_id)
    assert history.proposed is not None
    averaged = fetch_averaged(audit, history, history.proposed)
    assert isinstance(averaged, Averaged)
    for leaf in range(world.spec.leaf_count):
        with pytest.raises(Reverted) as caught:
            audit.federation.try_challenge_average(
                round_id, leaf, history.proposed.verdicts, *averaged.open(leaf)
            )
        assert caught.value.name == "LeafIsRight"
    return world.spec.leaf_count


# -------------------------------------------------------------------------- as a process


def wallet_arguments(world: World) -> list[str]:
    """Return endpoints and wallet of the auditor as the command line takes them."""
    keystore, password = world.folder / "auditor.json", world.folder / "password"
    password.write_text("long enough\n")
    world.auditor.save_keystore(keystore, "long enough", work_factor=2**12)
    endpoints = [world.address, "--rpc", world.chain.url, "--ipfs", world.daemon.url]
    return [*endpoints, "--keystore", str(keystore), "--password-file", str(password)]


def test_audit_run_challenges_when_asked(world: World) -> None:
    round_id = propose_with(world, off_by_one)
    runner = CliRunner()
    alone = runner.invoke(main, ["audit", "run", world.address, "--challenge"])
    assert alone.exit_code == 1
    assert "a challenge is a transaction: give --keystore FILE" in alone.output
    done = runner.invoke(main, ["audit", "run", *wallet_arguments(world), "--challenge"])
    assert done.exit_code == 1, done.output
    assert "FAIL  §7" in done.output
    assert "leaf 10 is not the weighted mean of 3 updates" in done.output
    assert_slashed(world)
    finish(world, round_id)


def test_audit_watch_catches_a_lie_by_itself(world: World) -> None:
    command = [sys.executable, "-m", "commonweight", "audit", "watch", *wallet_arguments(world)]
    root = str(Path(__file__).parents[2])
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": root, "COMMONWEIGHT_HOME": str(world.folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        round_id = propose_with(world, off_by_one)
        federation = world.client()
        give_up = time.monotonic() + 60
        while federation.status(round_id) is Status.CHALLENGE:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < give_up
            time.sleep(0.2)
        assert_slashed(world)
        finish(world, round_id)
        process.send_signal(signal.SIGTERM)
        told, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "leaf 10 is not the weighted mean of 3 updates" in told
        assert f"{world.aggregator.address} was refuted" in told
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
