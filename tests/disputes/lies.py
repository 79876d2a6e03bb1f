"""Every lie a cheating aggregator can propose, and the honest end of a round after it."""

import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from aggregator import aggregator as module
from auditor.disputes import find_fault
from auditor.replay import Audit
from contracts.enums import AggregatorState, Status
from protocol.checks import Check
from protocol.encoding import value_type
from protocol.manifest import Manifest
from protocol.spec import Spec
from protocol.types import BasisPoints, Digest, RoundId
from rounds.average import average_layers as average
from rounds.screen import Screened, screen
from storage.files import write_atomically
from storage.ipfs import ContentStore
from storage.layers import LayerFolder, Pinning, build_manifest
from tests.passwords import write_password
from tests.world import TOKEN, SyntheticTrainer, World

BOND = 200 * TOKEN
DEPOSIT = 3 * TOKEN
WINDOW = 1_800
RESPONSE = 100
TERMS: dict[str, Any] = {"challenge_seconds": WINDOW, "response_seconds": RESPONSE}

_ROOT = Path(__file__).parents[2]
_WAIT_SECONDS = 600.0

Lie = Callable[[World], RoundId]


def bend(folder: LayerFolder, layer: int, place: int, amount: int) -> None:
    path = folder.layer_path(layer)
    values = np.fromfile(path, value_type(folder.kind))
    values[place] += amount
    write_atomically(path, values.tobytes())


# --------------------------------------------------------------------------- a wrong average


Folders = Sequence[LayerFolder]


def off_by_one(
    spec: Spec, before: LayerFolder, updates: Folders, weights: Sequence[int], *to: Any
) -> Digest:
    average(spec, before, updates, weights, *to)
    bend(to[0], 1, 70, 1)
    return LayerFolder.root(to[0], spec)


def moved_too_far(
    spec: Spec, before: LayerFolder, updates: Folders, weights: Sequence[int], *to: Any
) -> Digest:
    average(spec, before, updates, weights, *to)
    bend(to[0], 1, 70, 2**25)
    return LayerFolder.root(to[0], spec)


def swapped_weights(
    spec: Spec, before: LayerFolder, updates: Folders, weights: Sequence[int], *to: Any
) -> Digest:
    return average(spec, before, updates, [weights[1], weights[0], *weights[2:]], *to)


def one_left_out(
    spec: Spec, before: LayerFolder, updates: Folders, weights: Sequence[int], *to: Any
) -> Digest:
    return average(spec, before, updates[:-1], weights[:-1], *to)


def one_made_up(
    spec: Spec, before: LayerFolder, updates: Folders, weights: Sequence[int], *to: Any
) -> Digest:
    invented = LayerFolder(to[0].path.parent / "invented", "update")
    invented.write(spec, [np.full(layer.shape, -50, np.int8) for layer in spec.layers])
    return average(spec, before, [*updates, invented], [*weights, 7], *to)


def last_model_again(
    spec: Spec, before: LayerFolder, updates: Folders, weights: Sequence[int], *to: Any
) -> Digest:
    to[0].write(spec, before.read(spec))
    return LayerFolder.root(to[0], spec)


# -------------------------------------------------------------------------- a wrong verdict


def judged(decision: Screened, **changes: Any) -> Screened:
    return dataclasses.replace(decision, verdict=dataclasses.replace(decision.verdict, **changes))


def weights_swapped_in_the_verdicts(decisions: list[Screened]) -> list[Screened]:
    first, second = decisions[0].verdict.weight, decisions[1].verdict.weight
    return [judged(decisions[0], weight=second), judged(decisions[1], weight=first), *decisions[2:]]


def rejecting_an_honest_update(decisions: list[Screened]) -> list[Screened]:
    bent = judged(decisions[0], weight=0, score=BasisPoints(0), reason=Check.NORM)
    return [bent, *decisions[1:]]


def calling_an_original_a_copy(decisions: list[Screened]) -> list[Screened]:
    bent = judged(decisions[0], weight=0, score=BasisPoints(0), reason=Check.DUPLICATE)
    return [bent, *decisions[1:]]


def calling_an_update_zero(decisions: list[Screened]) -> list[Screened]:
    bent = judged(decisions[0], weight=0, score=BasisPoints(0), reason=Check.ZERO)
    return [bent, *decisions[1:]]


def accepting_everybody(decisions: list[Screened]) -> list[Screened]:
    return [
        judged(d, weight=min(d.reveal.examples, 25), score=BasisPoints(10_000), reason=0)
        for d in decisions
    ]


class Still(SyntheticTrainer):
    """Changes nothing."""

    def steps(self, shape: tuple[int, ...], round_id: int, layer: int) -> Any:
        return np.zeros(shape, np.int8)


# --------------------------------------------------------------------- how a lie is proposed


def propose(world: World, **patches: Any) -> RoundId:
    """Play a round up to a proposal of a lead that has `patches` in place of the honest code."""
    round_id = world.open_round()
    world.commit_and_reveal(round_id)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in patches.items():
            patch.setattr(module, name, _deaf(value) if name == "average_layers" else value)
        world.aggregator.propose(round_id)
    return round_id


def _deaf(lie: Callable[..., Digest]) -> Callable[..., Digest]:
    """A lie hears neither mode nor threads, and tells of no layer."""
    return lambda *what, **_: lie(*what)


def averaging(lie: Callable[..., Digest]) -> Lie:
    return lambda world: propose(world, average_layers=lie)


def judging(lie: Callable[[list[Screened]], list[Screened]]) -> Lie:
    return lambda world: propose(world, screen=lambda *a, **k: lie(screen(*a, **k)))


def zero_accepted(world: World) -> RoundId:
    world.participants["bob"].trainer = Still("bob", 20)
    return judging(accepting_everybody)(world)


def copy_accepted(world: World) -> RoundId:
    world.participants["cem"].trainer = SyntheticTrainer("ann", 30)
    return judging(accepting_everybody)(world)


class Withholding(Pinning):
    """Pins nothing."""

    def begin(self, index: int) -> None:
        pass

    def finish(self, manifest: Manifest) -> Digest:
        return manifest.digest()


def withheld_model(world: World) -> RoundId:
    return propose(world, Pinning=Withholding)


def withheld_update(world: World) -> RoundId:
    """The lead and ann know her update, and let nobody else see it."""
    round_id = propose(world)
    for reveal in world.told(round_id).reveals:
        if reveal.participant == world.address_of("ann"):
            world.withhold(reveal.manifest)
    return round_id


def manifest_of_other_bytes(world: World) -> RoundId:
    def other(folder: LayerFolder, spec: Spec, subject: Any, root: Digest) -> Any:
        bend(folder, 0, 0, 1)
        return build_manifest(folder, spec, subject, root)

    # Averaged by the same code, but no layer is pinned before it is bent.
    return propose(world, build_manifest=other, average_layers=average)


CHALLENGED: dict[str, Lie] = {
    "off by one": averaging(off_by_one),
    "weights swapped": averaging(swapped_weights),
    "an update left out": averaging(one_left_out),
    "an update made up": averaging(one_made_up),
    "the last model again": averaging(last_model_again),
    "weights swapped in the verdicts": judging(weights_swapped_in_the_verdicts),
    "moved too far": averaging(moved_too_far),
    "an original called a copy": judging(calling_an_original_a_copy),
    "an update called zero": judging(calling_an_update_zero),
}
DISHONEST: dict[str, tuple[Lie, tuple[str, ...]]] = {
    "a zero update accepted": (zero_accepted, ("ann", "cem")),
    "a copy accepted": (copy_accepted, ("ann", "bob")),
}
"""Lies in favour of somebody, with those who are honest."""

WITHHELD: dict[str, Lie] = {
    "the model withheld": withheld_model,
    "an update withheld": withheld_update,
    "a manifest of other bytes": manifest_of_other_bytes,
}


# ------------------------------------------------------------------------- what comes of it


def auditing(world: World, name: str = "auditor") -> Audit:
    client = world.client(world.auditor)
    return Audit(client, ContentStore(world.daemon.url), world.folder / name)


def assert_slashed(world: World, deposits: int = 0) -> None:
    """The lead's bond is gone, half of it to the auditor, beside its returned deposits."""
    federation = world.client()
    assert federation.aggregator_state(world.aggregator_wallet.address) is AggregatorState.SLASHED
    assert federation.credit_of(world.auditor.address) == BOND // 2 + deposits * DEPOSIT


def finish(world: World, round_id: RoundId, honest: Sequence[str] = ("ann", "bob", "cem")) -> None:
    """The standby proposes what is right, and everybody honest is paid."""
    federation = world.client()
    standby = world.stand_by()
    assert federation.current_aggregator() == world.standby_wallet.address
    standby.propose(round_id)
    audit = auditing(world, "again")
    assert find_fault(audit, audit.context(round_id)) is None
    world.travel(WINDOW)
    standby.settle(round_id)
    assert federation.status(round_id) is Status.FINALIZED
    weights = {"ann": 10, "bob": 20, "cem": 25}
    for name, weight in weights.items():
        due = (20 * TOKEN + 1) * weight // 25 if name in honest else 0
        assert federation.credit_of(world.address_of(name)) == due
    accepted = sum(weights[name] for name in honest)
    assert federation.credit_of(world.standby_wallet.address) == 5 * TOKEN * accepted // 55
    lines = world.audit()
    assert [line.line() for line in lines if not line.passed] == []
    assert "§11" in {line.section for line in lines}


# ----------------------------------------------------------------------------- as a process


def wallet_arguments(world: World) -> list[str]:
    """Return endpoints and wallet of the auditor as the command line takes them."""
    keystore, password = world.folder / "auditor.json", world.folder / "password"
    write_password(password, "long enough\n")
    world.auditor.save_keystore(keystore, "long enough", work_factor=2**12)
    endpoints = [world.address, "--rpc", world.rpc_url, "--ipfs", world.daemon.url]
    return [*endpoints, "--keystore", str(keystore), "--password-file", str(password)]


class WatchProcess:
    """`commonweight audit watch` at work."""

    def __init__(self, process: "subprocess.Popen[str]", told: IO[str]) -> None:
        self.process = process
        self._told = told

    def told(self) -> str:
        """Return what it said so far."""
        self._told.seek(0)
        return self._told.read()

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Return once something is so, and fail when the watcher has ended or it takes too long."""
        give_up = time.monotonic() + _WAIT_SECONDS
        while not is_so():
            assert self.process.poll() is None or is_so(), self.told()
            assert time.monotonic() < give_up, self.told()
            time.sleep(0.1)

    def join(self) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait(timeout=_WAIT_SECONDS)

    def stop(self) -> int:
        """Ask it to end and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.join()


@contextmanager
def watching(world: World, *options: str) -> Iterator[WatchProcess]:
    """Run `audit watch` in a process of its own; it is stopped at the end."""
    watch = ["audit", "watch", *wallet_arguments(world), *options]
    environment = {
        **os.environ,
        "PYTHONPATH": str(_ROOT),
        "COMMONWEIGHT_HOME": str(world.folder),
    }
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "commonweight", *watch],
            env=environment,
            stdout=told,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield WatchProcess(process, told)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
