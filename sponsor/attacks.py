"""Which attacks of docs/threat-model.md would pay at the terms of a configuration, with figures.

    for attack in assess(Config.load(path)):
        print(attack.line())

Amounts are in whole tokens. Gas is left out: it depends on the chain.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from sponsor.config import Config


@dataclass(frozen=True)
class Attack:
    """An attack by `who`: whether it pays, and in words what it gains and costs."""

    who: str
    attack: str
    pays: bool
    why: str

    def line(self) -> str:
        """Return the attack as a line of text."""
        mark = "PAYS" if self.pays else "no  "
        return f"{mark}  {self.who:<12} {self.attack}: {self.why}"

    def as_json(self) -> dict[str, Any]:
        """Return the attack as a JSON object."""
        return asdict(self)


def assess(config: Config) -> Iterator[Attack]:
    """Yield the attacks in the order of docs/threat-model.md."""
    yield from _by_participants(config)
    yield from _by_the_lead(config)


def _by_participants(config: Config) -> Iterator[Attack]:
    money, seats, rules = config.money, config.seats, config.rules
    price, whole = money.update_reward, money.update_reward * seats.rounds
    earns = f"{price:,.2f} a round and seat, {whole:,.2f} in all, and the stake comes back"
    is_measured, is_paid = rules.scoring == "heldOut", price > 0
    door = "who comes in needs an invitation" if seats.by_invitation else "anybody can come in"
    little = "its measured help is about nothing, and so is its pay"
    yield Attack(
        "participant",
        "noise of an honest length in place of training",
        is_paid and not is_measured,
        little if is_measured else f"{earns}; {door}",
    )
    yield Attack(
        "participant",
        "more examples than were trained on",
        False,
        f"{config.weight_cap} count at most, what a round of training can read",
    )
    shared = "about half of an honest price, by its measured help" if is_measured else earns
    yield Attack(
        "participant",
        "one training for several seats, with noise",
        is_paid,
        f"{shared}; {money.participant_stake:,.2f} at stake for each seat; {door}",
    )
    repeats = is_measured and rules.score_gain == "new"
    again = "as much as honest work, while going on as before lowers the loss"
    yield Attack(
        "participant",
        "the model's last movement again, with noise",
        is_paid and not repeats,
        "only what is new in it counts" if repeats else again if is_measured else earns,
    )
    penalty = money.missed_reveal_penalty
    yield Attack(
        "participant",
        "commit and do not reveal, to hold a round up",
        penalty == 0,
        f"costs {penalty:,.2f} each time, burned, for {config.windows.reveal_seconds:,} s at most",
    )
    yield Attack(
        "participant",
        "take seats and never commit",
        False,
        f"gains nothing; locks {money.participant_stake:,.2f} a seat, which anybody can free after"
        f" {seats.max_missed} rounds",
    )


def _by_the_lead(config: Config) -> Iterator[Attack]:
    money, seats, windows = config.money, config.seats, config.windows
    is_measured = config.rules.scoring == "heldOut"
    full = seats.round_seats * money.update_reward
    whole, bond = full * seats.rounds, money.aggregator_bond
    is_seen = windows.challenge_seconds > 0 and bond > 0
    yield Attack(
        "aggregator",
        "a wrong average, weight, or reason 9 or 10",
        not is_seen,
        f"costs the bond of {bond:,.2f} when somebody looks within {windows.challenge_seconds:,} s,"
        f" and {bond / 2:,.2f} when it challenges itself",
    )
    friends = f"{full:,.2f} a round for {seats.round_seats} seats of friends, {whole:,.2f} in all"
    if is_measured:
        yield Attack(
            "aggregator",
            "full scores for friends that send noise",
            full > 0,
            f"{friends}; every audit with the base model says so, and the sponsor can close",
        )
        yield Attack(
            "aggregator",
            "the score 0 for everybody, to save the sponsor the price",
            full > 0,
            f"saves {full:,.2f} a round, {whole:,.2f} in all, and costs nothing on chain: its fee"
            f" of {money.aggregator_fee:,.2f} is by weight; every audit says so",
        )
    yield Attack(
        "aggregator",
        "reject everybody as unreachable, to save the sponsor the price",
        full > money.aggregator_fee,
        f"saves {full:,.2f} a round and costs it its fee of {money.aggregator_fee:,.2f}; audits"
        " that have the bytes say that they see it differently",
    )
    own = seats.min_participants
    alone = own * money.update_reward * seats.rounds
    yield Attack(
        "aggregator",
        "lead with seats of its own alone",
        alone > 0,
        f"{alone:,.2f} for {own} seats, which open rounds without anybody else; their stakes of"
        f" {own * money.participant_stake:,.2f} come back",
    )
    withheld = windows.response_seconds == 0
    yield Attack(
        "aggregator",
        "withhold the model or an accepted update",
        withheld,
        "nobody can request a leaf: response_seconds is 0"
        if withheld
        else f"costs the bond when a leaf is requested for {money.availability_deposit:,.2f} and"
        f" not posted within {windows.response_seconds:,} s",
    )
