"""A node's recorded answers, mutated, before everything that reads them.

Each reading is first played on a node, which records the answers, and then on the recording with
one answer changed.
"""

import json
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import requests
from web3 import Web3
from web3.middleware import AttributeDictMiddleware

from auditor.rules import check_seed
from chain.authentic import check_factory, find_founding, find_implementation
from chain.event_log import EventLog
from chain.events import read_events
from chain.factory import Factory
from chain.federation import Federation
from chain.phases import has_ended
from contracts.enums import Status
from ethereum.nonces import Call, Flight, Nonces
from ethereum.pool import Pool
from ethereum.rpc import RpcProvider
from ethereum.transactions import NotMined, Sender, SendingLimits
from protocol.types import Digest, RoundId
from tests.fuzz.mutate import mutate_bytes, mutate_value, to_json
from tests.world import World

ONE: Final = RoundId(1)
_NO_METHOD: Final = to_json({"error": {"code": -32601, "message": "no such method"}})

Asked = list[tuple[str, bytes]]
"""Methods and the bytes that they were answered with, in order."""


class Node(RpcProvider):
    """A node whose answers are recorded, and later repeated but for one."""

    def __init__(self, url: str) -> None:
        super().__init__(url, 5.0, patience_s=0.0)
        self._recorded: Asked = []
        self._is_recording = True
        self._number = -1
        self._changed = (-1, b"")

    def record(self) -> Asked:
        """Record from now on, into the list that is returned."""
        self._is_recording, self._recorded = True, []
        return self._recorded

    def repeat(self, recorded: Asked, number: int, answer: bytes) -> None:
        """Repeat `recorded` from now on, but `answer` in the place of its answer `number`."""
        self._is_recording, self._recorded = False, recorded
        self._number, self._changed = -1, (number, answer)

    def _post(self, body: bytes) -> tuple[requests.Response, bytes | None]:
        method = str(json.loads(body)["method"])
        if self._is_recording:
            response, found = super()._post(body)
            assert found is not None
            self._recorded.append((method, found))
            return response, found
        response = requests.Response()
        response.status_code = 200
        self._number += 1
        return response, self._answer(method)

    def _answer(self, method: str) -> bytes:
        number, answer = self._changed
        if self._number == number:
            return answer
        if self._number < len(self._recorded) and self._recorded[self._number][0] == method:
            return self._recorded[self._number][1]
        # A changed answer may lead to other questions.
        known = [answer for name, answer in self._recorded if name == method]
        return known[-1] if known else _NO_METHOD


@dataclass(frozen=True)
class Reading:
    """Something that reads the node, and what it is answered."""

    node: Node
    read: Callable[[], object]
    recorded: Asked

    def play(self, random: random.Random) -> None:
        """Read with one answer changed; raises what the reading raises."""
        number = random.randrange(len(self.recorded))
        self.node.repeat(self.recorded, number, _changed(random, self.recorded[number][1]))
        self.read()


def _changed(random: random.Random, good: bytes) -> bytes:
    if random.random() < 0.3:
        return mutate_bytes(random, good)
    answer = json.loads(good)
    # Mostly the result: of the rest there is little.
    if "result" in answer and random.random() < 0.9:
        return to_json({**answer, "result": mutate_value(random, answer["result"])})
    return to_json(mutate_value(random, answer))


def record(world: World) -> dict[str, Reading]:
    """Return what reads a node, by name, each with its recording from a world that has played."""
    node = Node(world.rpc_url)
    w3 = Web3(node, middleware=[(AttributeDictMiddleware, "attrdict")])
    w3.ens = None
    found = {}
    for name, read in _readings(w3, world).items():
        found[name] = Reading(node, read, _recorded(node, read))
    return found


def _recorded(node: Node, read: Callable[[], object]) -> Asked:
    """Return the answers of a reading that went well."""
    while True:
        recorded = node.record()
        # What is sent is waited for not at all, and a busy node takes a moment to mine it.
        with suppress(NotMined):
            read()
            return recorded


def _readings(w3: Web3, world: World) -> dict[str, Callable[[], object]]:
    ann, lead, told = world.wallets["ann"], world.aggregator_wallet, world.told(ONE)
    block, created = world.deployment_block, world.client().created_at()
    client = Federation(w3, world.address, ann, deployment_block=block)
    head, call = client.now().head, Call(ann.address, b"", 0)
    pool = Pool(w3, ann, client.chain_id, Nonces(), 10**12)
    flight = Flight(call, 21_000, 0, pool.going_fees(), 10**12)
    flight.hashes.append(told.opened.transaction_hash)
    factory = Factory(w3, client.founding().factory)
    quick = SendingLimits(receipt_seconds=0, displaced_seconds=0)

    def now() -> Federation:
        """Return a client that knows nothing of that block yet."""
        pinned = client.at(head)
        pinned.event_log = EventLog(w3, world.address, client.terms().money.availability_deposit)
        return pinned

    return {
        "terms": lambda: Federation(w3, world.address),
        "proxy": lambda: find_implementation(w3, world.address),
        "listing": lambda: factory.federations(block),
        "factory": lambda: check_factory(w3, factory.address),
        "founding": lambda: find_founding(w3, world.address, created, block),
        "events": lambda: read_events(w3, world.address, block),
        "history": lambda: now().history(),
        "phase": lambda: has_ended(now(), ONE, Status.COMMIT, 1),
        "time": client.next_time,
        "round": lambda: now().get_round(ONE),
        "status": lambda: (now().status(ONE), now().status(ONE, head)),
        "submission": lambda: now().get_submission(ONE, ann.address),
        "participant": lambda: now().get_participant(ann.address),
        "aggregators": lambda: (now().aggregators(), now().aggregator_state(lead.address)),
        "model": lambda: now().current_model(),
        "request": lambda: now().leaf_request(Digest(bytes(32)), 0),
        "token": lambda: (now().token.decimals(), now().token.symbol()),
        "seed check": lambda: [each.line() for each in check_seed(w3, world.address, told)],
        "over": lambda: (now().is_over(), now().escrow()),
        "fees": pool.going_fees,
        "nonces": lambda: (pool.mined(), pool.pending()),
        "pool": lambda: (pool.knows(flight), pool.find_holder(0), pool.estimate_gas(call)),
        "receipt": lambda: pool.find_receipt(flight),
        "sending": lambda: Sender(w3, ann, quick).send(ann.address, b""),
    }
