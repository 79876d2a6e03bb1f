"""A world whose updates are masked, driven step by step."""

from pathlib import Path
from typing import Any

from contracts.enums import Privacy, Status
from protocol.types import RoundId
from tests.world import World, small_spec

FOUR = ("ann", "bob", "cem", "dan")
FIVE = (*FOUR, "eve")
WINDOW = 600
TERMS: dict[str, Any] = {
    "privacy": Privacy.MASKED,
    "min_set": 3,
    "min_participants": 3,
    "seal_seconds": WINDOW,
    "unmask_seconds": WINDOW,
    "assist_seconds": WINDOW,
    "challenge_seconds": WINDOW,
}


class MaskedWorld(World):
    """As `World`, with masked updates of everybody in `names`."""

    def __init__(
        self, folder: Path, *, names: tuple[str, ...] = FOUR, norm: float = 10.0, **changes: Any
    ) -> None:
        spec = small_spec(privacy="masked", screening={"min_norm": 10, "max_update_norm": norm})
        super().__init__(folder, names=names, spec=spec, **{**TERMS, **changes})

    def status(self, round_id: RoundId) -> Status:
        return self.client().status(round_id)

    def reveal_all(self, *absent: str) -> RoundId:
        """Open a round in which everybody commits and all but the `absent` reveal."""
        round_id = self.open_round()
        self.ask("commit", round_id)
        self.act("reveal", round_id, *absent)
        if absent:
            self.travel_to(self.client().get_round(round_id).reveal_deadline)
        return round_id

    def travel_to(self, deadline: int) -> None:
        """Move the clock to a deadline."""
        now = self.client().next_time()
        self.travel(max(deadline - now, 0) + 1)

    def seal(self, *absent: str) -> RoundId:
        """As `reveal_all`, with the set sealed and the sketches drawn."""
        round_id = self.reveal_all(*absent)
        self.aggregator.seal(round_id)
        self.aggregator.open_sum(round_id)
        return round_id

    def act(self, action: Any, round_id: RoundId, *absent: str) -> None:
        """Ask all but the `absent`, whose machines are off."""
        self.finalize_blocks()
        for name, participant in self.participants.items():
            if name not in absent:
                getattr(participant, action)(round_id)

    def unmask(self, round_id: RoundId, *silent: str) -> None:
        """Have all but the `silent` unmask, and the others recover what these do not post."""
        self.act("unmask", round_id, *silent)
        if silent:
            self.travel_to(self.client().get_sum(round_id).unmask_deadline)
            assert self.status(round_id) is Status.ASSIST
            self.act("assist", round_id, *silent)
            self.aggregator.open_sum(round_id)

    def play(self) -> Status:
        """Play one round to its end, with everybody's part in it."""
        round_id = self.seal()
        self.unmask(round_id)
        return self.settle(round_id)

    def settle(self, round_id: RoundId) -> Status:
        """Propose, unless that was done, and settle the round after its challenge window."""
        if self.status(round_id) is Status.PROPOSE:
            self.aggregator.propose(round_id)
        if self.status(round_id) is Status.CHALLENGE:
            self.travel_to(self.client().get_round(round_id).challenge_deadline)
        return super().settle(round_id)

    def paid(self, round_id: RoundId) -> dict[str, int]:
        """What each was credited for a round, by name; nobody who got nothing."""
        told = self.told(round_id)
        amounts = {name: told.paid_to(self.address_of(name)) for name in self.names}
        return {name: amount for name, amount in amounts.items() if amount}

    def reasons(self, round_id: RoundId) -> dict[str, tuple[int, int, int]]:
        """Weight, score and reason of each verdict of the newest proposal, by name."""
        names = {self.address_of(name): name for name in self.names}
        verdicts = self.told(round_id).proposals[-1].verdicts
        return {names[v.participant]: (v.weight, v.score, v.reason) for v in verdicts}
