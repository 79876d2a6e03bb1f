"""What must hold after a schedule of masked rounds: how they end, and that nothing is leaked."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from chain.events import Committed, Objected, Penalized
from chain.history import RoundHistory
from chain.records import Terms
from protocol.checks import ACCEPTED
from protocol.commitment import compute_masked_commitment
from protocol.payout import compute_half_price
from protocol.shares import default_threshold
from protocol.types import Address, Digest, RoundId, parse_digest
from protocol.verdict import compute_weight
from storage.files import read_json
from tests.faults.checks import History
from tests.faults.founding import WALLETS
from tests.faults.public import Vector, find_leaks, masked_vectors, words_in, words_of


class MaskedHistory(History):
    """As `History`, of masked rounds."""

    def attendance(self) -> Iterator[str]:
        """Everybody did its part in every round that went on, but where it was away."""
        clock = self.stage.clock
        for told in self._rounds():
            here, asked = told.round_id, set(self.names)
            absent = {WALLETS[who].address for number, who in clock.excused if number == here}
            silent = {WALLETS[who].address for number, who in clock.silent if number == here}
            missing = {"commit": asked - absent - {e.participant for e in told.committed}}
            if len(told.committed) >= self._least:
                missing["reveal"] = asked - absent - {e.participant for e in told.revealed}
                posted = {reveal.participant for reveal in told.unmasked_themselves}
                missing["unmask"] = set(told.masking.members) - silent - posted
            for verb, who in missing.items():
                for name in sorted(self.names[address] for address in who):
                    yield f"{name} did not {verb} in round {here}, and was not away"

    def penalties(self) -> Iterator[str]:
        """A stake is cut for what was not revealed or opened, a bond for a deadline alone."""
        due = {(told.round_id, self.names[who]) for told in self._rounds() for who in _blamed(told)}
        taken = set(self.of(Penalized))
        if taken != due:
            yield f"penalized {taken}, to be blamed {due}"
        yield from self.bonds()

    def ends(self) -> Iterator[str]:
        """Every round ended as it has to: with a model, void, or because there were too few."""
        terms = self.stage.federation.terms()
        for told in self._rounds():
            fault = self._fault_of_end(told)
            if fault:
                yield f"round {told.round_id}: {fault}"
            yield from self._prices(told, terms)
        if any(isinstance(event, Objected) for event in self.events):
            yield "somebody objected to an honest sum"

    def _fault_of_end(self, told: RoundHistory) -> str:
        masking, members = told.masking, told.masking.members
        is_late = any(number == told.round_id for number, _ in self.stage.clock.excused)
        if len(told.committed) < self._least or len(told.revealed) < self._least:
            return "" if told.abandoned is not None else "it had too few, and was not abandoned"
        if masking.sealed is None:
            return "" if is_late else "it was not sealed, and nobody was away"
        if not members:
            return "" if self.stage.withheld else "nothing was sealed, though all of it was there"
        if masking.voided is not None:
            others = len(members) - len(masking.silent)
            enough = default_threshold(len(told.committed) - 1)
            return "" if others < enough else f"it was voided, with {others} who could help"
        if masking.silent:
            return f"secrets of {masking.silent} are unknown, and it is not void"
        if told.finalized is None and not is_late:
            return "its sum was known, it was not finalized, and nobody was away"
        return ""

    def _prices(self, told: RoundHistory, terms: Terms) -> Iterator[str]:
        """The price for who is in a finalized sum, half of it for who opened a void one."""
        cap, price = terms.seats.weight_cap, terms.money.update_reward
        due: dict[Address, int] = {}
        for reveal in told.unmasked_themselves:
            weight = compute_weight(reveal.examples, cap)
            verdict = told.verdict_on(reveal.participant)
            if told.masking.voided is not None:
                due[reveal.participant] = compute_half_price(price, cap, weight)
            elif told.finalized is not None and verdict is not None and verdict.reason == ACCEPTED:
                due[reveal.participant] = price * weight // cap
        paid = {event.participant: int(event.amount) for event in told.paid}
        if paid != due:
            yield f"round {told.round_id}: paid {paid}, due {due}"

    def leaks(self) -> Iterator[str]:
        """Nothing that was ever public frees an update of its masks, but in the sum of its set."""
        blocks = {sha256(block).digest(): block for block in self._blocks()}
        found = list(masked_vectors(blocks, self._owners()))
        yield from (each for each in found if isinstance(each, str))
        vectors = [each for each in found if isinstance(each, Vector)]
        words = words_of(call for line in self.stage.rpc_lines.values() for call in line.sent)
        words |= words_in(blocks.values())
        sets = [frozenset(told.masking.members) for told in self._rounds()]
        yield from find_leaks(vectors, words, sets, self._least)
        everything = b"".join(blocks.values())
        for path in self._round_files("update/*.layer"):
            if path.read_bytes()[:_TELLING] in everything:
                yield f"{path} is in the store, without masks"

    @property
    def _least(self) -> int:
        return self.stage.federation.terms().rules.min_set

    def _rounds(self) -> list[RoundHistory]:
        return list(self.stage.federation.history().rounds.values())

    def _blocks(self) -> Iterator[bytes]:
        for path in (self.stage.founded.repo / "blocks").glob("*/*.data"):
            yield path.read_bytes()
        yield from self.stage.withheld

    def _owners(self) -> dict[Digest, Address]:
        return {
            parse_digest(read_json(path)["manifest"]): WALLETS[name].address
            for name in self.stage.schedule.names
            for path in self._round_files("masked.json", name)
        }

    def _round_files(self, pattern: str, name: str = "*") -> Iterator[Path]:
        return self.stage.folder.glob(
            f"{name}/state/{self.stage.founded.address}/round-*/{pattern}"
        )

    def commitment_on_disk(self, name: str, event: Committed) -> Digest:
        address = self.stage.founded.address
        round_id = RoundId(event.round)
        prepared = self.prepared(name, round_id)
        keys = self.stage.federation.history().round(round_id).masking.keys
        return compute_masked_commitment(
            address,
            round_id,
            event.participant,
            keys[event.participant],
            prepared["examples"],
            bytes.fromhex(prepared["salt"]),
        )


_TELLING = 256  # bytes of an update: no other has the same


def _blamed(told: RoundHistory) -> set[Address]:
    """Return who has to pay for a round: who revealed nothing into it, and who was silent."""
    masking, revealed = told.masking, {event.participant for event in told.revealed}
    committed = {event.participant for event in told.committed}
    if len(committed) < _LEAST or not revealed:
        return set()
    silent = masking.silent if masking.voided is not None else []
    return (committed - revealed) | {*silent, *masking.recovered}


_LEAST = 3  # in a set of tests/masked/world.py
