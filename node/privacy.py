"""A participant's privacy budget: what its rounds have spent, kept so that it only ever grows.

    STATE/privacy.json       every round that was trained under it, in any federation of this folder

A round is on disk before its training begins, with the noise that it will have. A crash in between
costs its share of the budget, and training again spends again: only one of the two results can be
published, but both were computed from the data. What was trained and is on disk is used, not made
again.

A folder that was restored from a copy lacks rounds. The chain has them: whatever left this machine
was committed to first, so each round that this address committed to and the folder does not know
counts as spent, at the least noise and the most frequent sampling of all that are known. So a
copy can only raise what counts as spent.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from chain.federation import Federation
from protocol.errors import CommonweightError, Misconfigured
from protocol.spec import Spec, Training
from protocol.types import Address, RoundId
from runtime import events
from runtime.events import Report, ignore
from storage.files import read_json, write_json
from training.accountant import (
    CLEAR,
    DROWNED,
    Mechanism,
    epsilon_of,
    noise_for,
    signal_to_noise,
)

LEDGER: Final = "privacy.json"
_SLACK: Final = 1 + 1e-9  # of float64 sums in another order


class BudgetSpent(CommonweightError):
    """Another round would spend more than the budget."""


@dataclass(frozen=True)
class PrivacyTarget:
    """The promise to each record: (ε, δ) over `rounds`, with gradients clipped at `clip`."""

    epsilon: float
    delta: float
    clip: float
    rounds: int


@dataclass(frozen=True)
class Spend:
    """A round that was trained, or, `is_assumed`, that the chain shows and the folder lacked."""

    federation: Address
    round: RoundId
    rate: float
    noise: float
    steps: int
    is_assumed: bool = False


@dataclass(frozen=True)
class Ledger:
    """All rounds that spent, and the ε of them together at `delta`."""

    spends: tuple[Spend, ...] = ()
    epsilon: float = 0.0
    delta: float = 0.0

    @classmethod
    def read(cls, state: Path) -> "Ledger":
        """Return the ledger of a state folder; an empty one where there is none.

        Raises Misconfigured when the file is not what was written.
        """
        path = state / LEDGER
        if not path.exists():
            return cls()
        try:
            found = read_json(path)
            spends = tuple(Spend(**each) for each in found["spends"])
            return cls(spends, float(found["epsilon"]), float(found["delta"]))
        except (TypeError, KeyError, ValueError, Misconfigured) as error:
            raise Misconfigured(
                f"{path} does not say what was spent ({error}): put a copy in its place, or remove"
                " it, and the rounds that the chain shows count as spent"
            ) from error

    def write(self, state: Path) -> None:
        """Write the ledger; it is on disk when this returns."""
        write_json(state / LEDGER, asdict(self), mode=0o600)

    def rounds_of(self, federation: Address) -> set[RoundId]:
        """Return the rounds of a federation that are in the ledger."""
        return {each.round for each in self.spends if each.federation == federation}


class PrivacyBudget:
    """The budget of one address in one federation, and of whatever else its state folder did."""

    def __init__(
        self,
        state: Path,
        federation: Federation,
        address: Address,
        target: PrivacyTarget,
        report: Report = ignore,
    ) -> None:
        self.state = state
        self.federation = federation
        self.address = address
        self.target = target
        self.report = report

    def plan(self, records: int, training: Training) -> Mechanism:
        """Return the mechanism of a round, with the noise that all planned rounds need."""
        return plan_mechanism(self.target, records, training)

    def spend(self, round_id: RoundId, mechanism: Mechanism) -> None:
        """Record a round that is about to be trained; on disk when this returns.

        Raises BudgetSpent, and records nothing of this round, when it would be too much.
        """
        ledger = self._with_rounds_on_chain(mechanism)
        new = Spend(self.federation.address, round_id, **asdict(mechanism))
        spends, delta = (*ledger.spends, new), self.target.delta
        before, after = (epsilon_of(_mechanisms(part), delta) for part in (spends[:-1], spends))
        if after > self.target.epsilon * _SLACK:
            Ledger(spends[:-1], before, delta).write(self.state)
            self.report(self._spent(round_id, before, mechanism))
            raise BudgetSpent(
                f"ε {before:.2f} of {self.target.epsilon:g} is spent, and another round would make"
                f" it {after:.2f}: nothing is trained; raise epsilon in [privacy], or stop with"
                " `commonweight participant leave`"
            )
        Ledger(spends, after, delta).write(self.state)
        self.report(self._spent(round_id, after, mechanism))

    def covers(self, round_id: RoundId) -> bool:
        """Return whether the round was trained under the budget, from this folder."""
        return round_id in Ledger.read(self.state).rounds_of(self.federation.address)

    def _with_rounds_on_chain(self, mechanism: Mechanism) -> Ledger:
        """Return the ledger with the rounds that the chain shows and the folder does not know."""
        ledger, here = Ledger.read(self.state), self.federation.address
        known = ledger.rounds_of(here)
        lost = sorted(committed_rounds(self.federation.now(), self.address) - known)
        if not lost:
            return ledger
        every = [*_mechanisms(ledger.spends), mechanism]
        rate, noise = max(each.rate for each in every), min(each.noise for each in every)
        steps = max(each.steps for each in every)
        assumed = [Spend(here, number, rate, noise, steps, is_assumed=True) for number in lost]
        self.report(events.PrivacyAssumed(rounds=len(lost), first=lost[0], last=lost[-1]))
        return Ledger((*ledger.spends, *assumed), ledger.epsilon, ledger.delta)

    def _spent(self, round_id: RoundId, so_far: float, mechanism: Mechanism) -> events.Event:
        return events.PrivacySpent(
            round=round_id,
            epsilon=round(so_far, 4),
            of=self.target.epsilon,
            delta=self.target.delta,
            noise=round(mechanism.noise, 4),
        )


def plan_mechanism(target: PrivacyTarget, records: int, training: Training) -> Mechanism:
    """Return the sampling and the noise of a round in which `records` are protected."""
    rate = min(1.0, training.batch_size / records)
    steps = training.steps
    noise = noise_for(target.epsilon, target.delta, rate, steps * target.rounds)
    return Mechanism(rate, noise, steps)


def describe_noise(spec: Spec, target: PrivacyTarget, records: int) -> tuple[str, bool]:
    """Return what a promise to `records` means for the noise, and whether that is a warning."""
    training = spec.training
    mechanism = plan_mechanism(target, records, training)
    whole = replace(mechanism, steps=training.steps * target.rounds)
    values = sum(spec.layer_values(index) for index in range(len(spec.layers)))
    ratio = signal_to_noise(whole, records, values)
    told = (
        f"ε {target.epsilon:g} at δ {target.delta:g} over {target.rounds} rounds of"
        f" {training.steps} steps, each of about {mechanism.rate * records:.0f} of {records} rows:"
        f" noise of {mechanism.noise:.2f} clips; the signal is at most {ratio:.3f} of it"
    )
    if target.delta >= 1 / records:
        return f"{told}; δ allows to publish a whole row: take less than 1/{records}", True
    if ratio < DROWNED:
        told += (
            f", which drowns what is to be learnt (measured: an eighth is left at {DROWNED:g}):"
            " more rows, a larger ε, or a federation with larger batches"
        )
    elif ratio < CLEAR:
        told += (
            f", which takes most of what is to be learnt (measured: a third is left at {CLEAR:g})"
        )
    return told, ratio < DROWNED


def committed_rounds(now: Federation, address: Address) -> set[RoundId]:
    """Return the rounds in which `address` committed to an update, by the chain."""
    return {
        told.round_id
        for told in now.history().rounds.values()
        if any(event.participant == address for event in told.committed)
    }


def describe_budget(
    state: Path, now: Federation, address: Address, target: PrivacyTarget | None
) -> dict[str, Any] | None:
    """Return what is spent as JSON values; None where nothing was ever protected."""
    ledger = Ledger.read(state)
    if target is None and not ledger.spends:
        return None
    lost = committed_rounds(now, address) - ledger.rounds_of(now.address)
    return {
        "epsilon_spent": ledger.epsilon,
        "epsilon": None if target is None else target.epsilon,
        "delta": ledger.delta or (target.delta if target else None),
        "rounds": len({(each.federation, each.round) for each in ledger.spends}),
        "rounds_not_counted": len(lost),
    }


def _mechanisms(spends: Sequence[Spend]) -> list[Mechanism]:
    return [Mechanism(each.rate, each.noise, each.steps) for each in spends]
