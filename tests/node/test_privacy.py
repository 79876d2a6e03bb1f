"""The privacy budget across restarts, kills, restored folders and what rounding left over.

One participant on a chain of this process, as in test_carrying.py, whose trainer takes each round
from the budget before it trains, as `node.trainer.LocalTrainer` does.
"""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devnet.ipfs.daemon import DevIpfsDaemon
from node.participant import Participant, TrainedUpdate
from node.privacy import (
    Ledger,
    PrivacyBudget,
    PrivacyTarget,
    Spend,
    committed_rounds,
    describe_budget,
    describe_noise,
)
from node.settings import Privacy
from node.trainer import LocalTrainer
from protocol.errors import Misconfigured
from protocol.spec import Spec
from protocol.types import Address, RoundId
from runtime import events
from storage.layers import LayerFolder
from tests.node.test_carrying import Drifting, Place, same
from training.accountant import Mechanism, epsilon_of
from training.update import Carried

RECORDS = 80
TARGET = PrivacyTarget(epsilon=4.0, delta=1e-5, clip=1.0, rounds=3)


class Protecting(Drifting):
    """Takes a round from the budget, then trains as Drifting does; `before` is called between."""

    budget: PrivacyBudget | None = None

    def __init__(self) -> None:
        super().__init__()
        self.trainings = 0
        self.before: Callable[[RoundId], None] = lambda round_id: None

    def train(
        self,
        spec: Spec,
        model: LayerFolder,
        round_id: RoundId,
        update: LayerFolder,
        carried: Carried | None,
    ) -> TrainedUpdate:
        if self.budget is not None:
            self.budget.spend(round_id, self.budget.plan(RECORDS, spec.training))
        self.before(round_id)
        self.trainings += 1
        return super().train(spec, model, round_id, update, carried)


class PrivatePlace(Place):
    """A federation with one participant who has a budget, unless `is_bare`."""

    is_bare = False
    trainer: Protecting

    @property
    def budget(self) -> PrivacyBudget:
        assert self.participant.budget is not None
        return self.participant.budget

    @property
    def state(self) -> Path:
        return self.folder / "ann"

    @property
    def ledger(self) -> Ledger:
        return Ledger.read(self.state)

    def restarted(self) -> Participant:
        if not isinstance(self.trainer, Protecting):  # the base class makes another
            self.trainer = Protecting()
        report = self.events.append
        address = self.client.sender.address
        budget = None
        if not self.is_bare:
            budget = PrivacyBudget(self.state, self.client, address, TARGET, report)
        self.trainer.budget = budget
        self.participant = Participant(
            self.client, self.store, self.trainer, self.state, report, budget
        )
        return self.participant

    def told(self, kind: type[events.Event]) -> list[events.Event]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[PrivatePlace]:
    daemon = DevIpfsDaemon(tmp_path / "ipfs")
    daemon.start()
    try:
        yield PrivatePlace(tmp_path, daemon)
    finally:
        daemon.stop()


def mechanism(place: PrivatePlace) -> Mechanism:
    return place.budget.plan(RECORDS, place.spec.training)


def test_it_stops_at_the_budget_and_stays_stopped(place: PrivatePlace) -> None:
    one = mechanism(place)
    for number in (1, 2, 3):
        place.play(accept=True)
        assert place.ledger.epsilon == pytest.approx(epsilon_of([one] * number, TARGET.delta))
    assert 0.99 * TARGET.epsilon < place.ledger.epsilon <= TARGET.epsilon
    round_id = place.open()
    assert place.participant.commit(round_id) is None
    assert place.participant.commit(round_id) is None
    (told,) = place.told(events.PrivacyUsedUp)
    assert "ε 4.00 of 4 is spent" in str(told.facts()["reason"])
    # A restart, and one with the owner's mind changed.
    assert place.restarted().commit(round_id) is None
    assert len(place.ledger.spends) == place.trainer.trainings == 3
    place.restarted()
    place.budget.target = PrivacyTarget(9.0, 1e-5, 1.0, 3)
    assert place.participant.commit(round_id) is not None
    assert len(place.ledger.spends) == 4


def test_a_kill_between_spending_and_training_spends(place: PrivatePlace) -> None:
    round_id = place.open()
    child = os.fork()
    if child == 0:  # another process of this participant, which the kernel ends
        place.trainer.before = lambda number: os.kill(os.getpid(), signal.SIGKILL)
        place.participant.commit(round_id)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert [each.round for each in place.ledger.spends] == [round_id]
    # What it would have trained is lost: training anew spends anew.
    assert place.restarted().commit(round_id) is not None
    assert [each.round for each in place.ledger.spends] == [round_id, round_id]
    expected = epsilon_of([mechanism(place)] * 2, TARGET.delta)
    assert place.ledger.epsilon == pytest.approx(expected)


def test_a_spend_is_on_disk_before_training(
    place: PrivatePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, seen = [], []
    true = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        true(descriptor)

    def before(round_id: RoundId) -> None:
        seen.extend(synced)
        assert round_id in place.ledger.rounds_of(place.client.address)

    place.trainer.before = before
    monkeypatch.setattr(os, "fsync", fsync)
    assert place.participant.commit(place.open()) is not None
    # The file's bytes, then its name in the folder.
    assert str(place.state) in seen
    assert any(Path(each).parent == place.state for each in seen)


def test_what_is_trained_is_used_after_a_crash(
    place: PrivatePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    round_id = place.open()

    def die(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Participant, "_send_commitment", die)
        with pytest.raises(KeyboardInterrupt):
            place.participant.commit(round_id)
    first = place.participant._load(round_id)
    assert place.restarted().commit(round_id) == first
    assert place.trainer.trainings == len(place.ledger.spends) == 1


@pytest.mark.parametrize("lost", ["two rounds", "everything"])
def test_a_restored_folder_spends_no_less(place: PrivatePlace, tmp_path: Path, lost: str) -> None:
    copy = tmp_path / "copy"
    if lost == "two rounds":
        place.play(accept=True)
        shutil.copytree(place.state, copy)
    place.play(accept=True)
    place.play(accept=True)
    if lost == "everything":
        place.play(accept=True)
    spent = place.ledger.epsilon
    shutil.rmtree(place.state)
    if copy.exists():
        copy.rename(place.state)
    place.restarted()
    assert place.ledger.epsilon < spent
    described = describe_budget(place.state, place.client.now(), place.participant.address, TARGET)
    missing = 2 if lost == "two rounds" else 3
    assert described is not None
    assert described["rounds_not_counted"] == missing
    # The next round counts what the chain has, and there is nothing left.
    assert place.participant.commit(place.open()) is None
    (told,) = place.told(events.PrivacyAssumed)
    assert told.facts()["rounds"] == missing
    assert place.ledger.epsilon >= spent * (1 - 1e-9)
    assert [each.is_assumed for each in place.ledger.spends].count(True) == missing
    # Once only, and for good.
    place.restarted().commit(RoundId(4))
    assert len(place.ledger.spends) == 3


def test_lost_rounds_count_at_the_least_noise_that_is_known(place: PrivatePlace) -> None:
    place.play(accept=True)
    here, other = place.client.address, Address("0x" + 40 * "1")
    rare = Spend(other, RoundId(1), rate=0.9, noise=40.0, steps=1)
    loud = Spend(other, RoundId(2), rate=0.001, noise=0.9, steps=1)
    Ledger((rare, loud), 0.1, 1e-5).write(place.state)
    place.participant.commit(place.open())
    (found,) = [each for each in place.ledger.spends if each.is_assumed]
    planned = mechanism(place)
    assert (found.federation, found.round) == (here, 1)
    assert found.rate == 0.9
    assert found.noise == min(0.9, planned.noise)
    assert found.steps == planned.steps


def test_an_unnoised_residual_reaches_no_noised_update(place: PrivatePlace) -> None:
    place.is_bare = True
    place.restarted()
    place.play(accept=True)
    place.play(accept=True)
    assert same(place.trainer.carried[2], place.trainer.left[1])  # bare rounds carry on
    place.is_bare = False
    place.restarted()
    place.play(accept=True)
    assert place.trainer.carried[3] is None
    (lost,) = place.told(events.CarriedLost)
    assert "carried-private" in str(lost.facts()["reason"])
    assert place.ledger.spends[0].is_assumed  # bare rounds count, at the least
    # And what a noised update left over goes on.
    place.restarted()
    place.budget.target = PrivacyTarget(9.0, 1e-5, 1.0, 3)
    place.play(accept=True)
    assert same(place.trainer.carried[4], place.trainer.left[3])


def test_an_update_trained_bare_is_not_committed_to(
    place: PrivatePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.is_bare = True
    place.restarted()
    round_id = place.open()
    with monkeypatch.context() as patch:
        patch.setattr(Participant, "_send_commitment", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            place.participant.commit(round_id)
    bare = place.participant._load(round_id)
    place.is_bare = False
    prepared = place.restarted().commit(round_id)
    assert prepared is not None
    assert prepared != bare
    assert place.told(events.TrainedBare)
    assert place.trainer.trainings == 2
    assert len(place.ledger.spends) == 1


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"spends": [{}], "epsilon": 0, "delta": 0}', '{"spends": []}']
)
def test_a_damaged_ledger_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "privacy.json").write_text(content)
    with pytest.raises(Misconfigured) as caught:
        Ledger.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_ledger_is_what_was_written(tmp_path: Path) -> None:
    ledger = Ledger((Spend(Address("0x" + 40 * "1"), RoundId(2), 0.1, 1.5, 7, True),), 0.5, 1e-6)
    ledger.write(tmp_path)
    assert Ledger.read(tmp_path) == ledger
    assert (tmp_path / "privacy.json").stat().st_mode & 0o777 == 0o600
    assert json.loads((tmp_path / "privacy.json").read_text())["epsilon"] == 0.5


def test_the_chain_says_which_rounds_left_the_machine(place: PrivatePlace) -> None:
    place.play(accept=True)
    place.play(accept=False)
    place.open()
    now = place.client.now()
    assert committed_rounds(now, place.participant.address) == {1, 2}
    assert committed_rounds(now, place.stage.outsider.sender.address) == set()


def test_a_trainer_without_a_budget_does_not_train(place: PrivatePlace, tmp_path: Path) -> None:
    trainer = LocalTrainer(
        tmp_path / "none.jsonl", "tiny-llama", tmp_path, privacy=Privacy(epsilon=1.0)
    )
    with pytest.raises(Misconfigured, match="no budget"):
        trainer._protect(place.spec, RoundId(1))


def test_noise_is_described_before_anything_is_staked(place: PrivatePlace) -> None:
    many = PrivacyTarget(epsilon=50.0, delta=1e-5, clip=1.0, rounds=300)
    told, is_warning = describe_noise(place.spec, many, RECORDS)
    assert told.startswith("ε 50 at δ 1e-05 over 300 rounds of 1 steps, each of about 1 of 80 rows")
    assert told.endswith("the signal is at most 0.851 of it")
    assert not is_warning
    some = PrivacyTarget(epsilon=4.0, delta=1e-5, clip=1.0, rounds=30)
    told, is_warning = describe_noise(place.spec, some, RECORDS)
    assert "takes most of what is to be learnt" in told
    assert not is_warning
    few = PrivacyTarget(epsilon=0.001, delta=1e-5, clip=1.0, rounds=3)
    told, is_warning = describe_noise(place.spec, few, RECORDS)
    assert "drowns" in told
    assert is_warning
    careless = PrivacyTarget(epsilon=4.0, delta=0.1, clip=1.0, rounds=3)
    told, is_warning = describe_noise(place.spec, careless, RECORDS)
    assert "less than 1/80" in told
    assert is_warning


def test_metrics_and_trackers_have_what_is_spent() -> None:
    from runtime.metrics import Metrics

    metrics = Metrics()
    spent = events.PrivacySpent(round=RoundId(2), epsilon=1.5, of=8.0, delta=1e-5, noise=0.9)
    metrics.report(spent)
    found = {
        kind: metrics.registry.get_sample_value("commonweight_privacy_epsilon", {"kind": kind})
        for kind in ("spent", "budget")
    }
    assert found == {"spent": 1.5, "budget": 8.0}
    assert spent.figures() == {"privacy/epsilon": (2, 1.5)}
    assert events.PrivacySpent(epsilon=0.0, of=8.0, delta=1e-5).figures() == {}
