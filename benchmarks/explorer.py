"""The explorer over a long history: 1,000 rounds of 64 participants.

    python -m benchmarks.explorer      (`make bench-explorer`; --quick: 40 rounds)

The real contract on anvil plays the rounds: transactions of a phase in one block, and in the last
20 rounds each in a block of its own. Nobody trains, roots and manifests are random numbers, and no
bytes are in any store. Then `commonweight explore` is started twice, the second time with the
events that the first has kept, and its pages are asked for: the first ones, and some hundred more
while its memory is watched. Results go to benchmarks/results/explorer.json.
"""

import argparse
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import requests
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from benchmarks.common import RESULTS, write_results
from chain.location import FederationLocation
from contracts.compiler import load_artifact
from protocol.commitment import PREFIX_BYTES, compute_commitment, compute_update_digest
from protocol.types import Address, Digest, RoundId, TokenUnits
from protocol.verdict import FULL_SCORE, compute_weight
from tests.ethereum.anvil import running_anvil
from tests.world import TOKEN, World

_GAS: Final = hex(12_000_000)
_LONG_S: Final = 50_000
_EXAMPLES: Final = 20
_SPREAD_ROUNDS: Final = 20  # the last ones, each transaction of which has a block of its own
_ASKED: Final = 50  # rounds between two looks at the memory


@dataclass(frozen=True)
class Update:
    """What one participant reveals: numbers that follow from its address and the round."""

    participant: Address
    root: Digest
    manifest: Digest
    salt: bytes

    @classmethod
    def of(cls, participant: Address, round_id: int) -> "Update":
        """Return a participant's update of a round."""
        parts = [_number(f"{participant} {round_id} {what}") for what in ("root", "cid", "salt")]
        return cls(participant, Digest(parts[0]), Digest(parts[1]), parts[2])


class Contract:
    """Sends calls of the federation's contract from any account, many with one request."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._http = requests.Session()
        self._functions = {
            entry["name"]: entry
            for artifact in ("DevToken", "Federation")
            for entry in load_artifact(artifact)["abi"]
            if entry["type"] == "function"
        }
        self.ask("anvil_autoImpersonateAccount", True)
        self.mines_each = True

    def mine_each(self, is_so: bool) -> None:
        """Mine a block for each transaction, or one for all that are sent at once."""
        self.mines_each = is_so
        self.ask("evm_setAutomine", is_so)

    def ask(self, method: str, *params: object) -> Any:
        """Return the node's answer to one request."""
        (answer,) = self.post([(method, list(params))])
        return answer

    def post(self, calls: Sequence[tuple[str, list[object]]]) -> list[Any]:
        """Return the node's answers to many requests."""
        body = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            for number, (method, params) in enumerate(calls)
        ]
        answers = self._http.post(self.world.rpc_url, json=body, timeout=600).json()
        faults = [each["error"] for each in answers if "error" in each]
        if faults:
            raise RuntimeError(f"{len(faults)} of {len(calls)} calls failed: {faults[0]}")
        return [each["result"] for each in sorted(answers, key=lambda each: int(each["id"]))]

    def send(self, name: str, *calls: tuple[Address, list[object]], token: bool = False) -> None:
        """Send one function's calls, each from an account; RuntimeError when one fails."""
        to = self.world.token.address if token else self.world.address
        # Not by web3, which takes a hundred times as long.
        kinds = [_kind(each) for each in self._functions[name]["inputs"]]
        selector = keccak(text=f"{name}({','.join(kinds)})")[:4]
        data = ["0x" + (selector + encode(kinds, args)).hex() for _, args in calls]
        sent: list[tuple[str, list[object]]] = [
            ("eth_sendTransaction", [{"from": who, "to": to, "gas": _GAS, "data": each}])
            for (who, _), each in zip(calls, data, strict=True)
        ]
        hashes = self.post(sent)
        if not self.mines_each:
            self.ask("evm_mine")
        wanted: list[tuple[str, list[object]]] = [
            ("eth_getTransactionReceipt", [each]) for each in hashes
        ]
        while not all(receipts := self.post(wanted)):
            time.sleep(0.002)  # anvil mines beside its answers
        if any(int(receipt["status"], 16) != 1 for receipt in receipts):
            raise RuntimeError(f"{name} was reverted")


class History:
    """Plays rounds by the contract alone."""

    def __init__(self, world: World, seats: int) -> None:
        self.world, self.contract = world, Contract(world)
        self.lead = world.aggregator_wallet.address
        self.cap = world.client().terms().seats.weight_cap
        world.client(world.aggregator_wallet).bond()
        checksum = world.w3.to_checksum_address
        self.members = [
            Address(checksum("0x" + _number(f"member {number}")[:20].hex()))
            for number in range(seats)
        ]
        for who in self.members:
            self.contract.ask("anvil_setBalance", who, hex(10**24))
        sponsor, stake = world.sponsor.address, world.client().terms().money.participant_stake
        self.contract.send(
            "transfer", *((sponsor, [who, stake]) for who in self.members), token=True
        )
        self.contract.send(
            "approve", *((who, [world.address, stake]) for who in self.members), token=True
        )
        self.contract.send("join", *((who, [0, b""]) for who in self.members))

    def play(self, round_id: RoundId) -> None:
        """Play one round; one update in it is called weak, and is not paid."""
        send = self.contract.send
        updates = [Update.of(who, round_id) for who in self.members]
        send("openRound", (self.lead, []))
        send("fixSeed", (self.lead, [round_id]))
        send(
            "commit",
            *((each.participant, [round_id, self._committed(each, round_id)]) for each in updates),
        )
        send(
            "reveal",
            *(
                (each.participant, [round_id, each.root, each.manifest, _EXAMPLES, each.salt])
                for each in updates
            ),
        )
        verdicts = [self._verdict(each, round_id) for each in updates]
        verdicts.sort(key=lambda row: int(str(row[0]), 16))
        root, manifest = (_number(f"model {round_id} {what}") for what in ("root", "cid"))
        send("propose", (self.lead, [round_id, root, manifest, verdicts]))
        self.contract.ask("evm_increaseTime", 2)
        send("finalize", (self.lead, [round_id, verdicts]))

    def _committed(self, update: Update, round_id: RoundId) -> Digest:
        return compute_commitment(
            self.world.address,
            round_id,
            update.participant,
            update.root,
            update.manifest,
            _EXAMPLES,
            update.salt,
        )

    def _verdict(self, update: Update, round_id: RoundId) -> tuple[object, ...]:
        digest = compute_update_digest(update.root, update.manifest, _EXAMPLES)[:PREFIX_BYTES]
        is_weak = self.members[round_id % len(self.members)] == update.participant
        if is_weak:
            return update.participant, digest, 0, 0, 11
        weight = compute_weight(_EXAMPLES, self.cap)
        return update.participant, digest, weight, FULL_SCORE, 0


def main() -> None:
    """Play, measure, write the results and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--seats", type=int, default=64)
    parser.add_argument("--quick", action="store_true", help="40 rounds, to see that it works")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    given = parser.parse_args()
    rounds = 40 if given.quick else given.rounds
    with tempfile.TemporaryDirectory(prefix="commonweight-bench-") as name:
        folder = Path(name)
        with playing(folder, rounds, given.seats) as world:
            measured = measure(folder, world, rounds)
    measured |= {"rounds": rounds, "participants": given.seats}
    name = "explorer-quick" if given.quick else "explorer"
    write_results(given.out, name, measured)
    print(json.dumps(measured, indent=2))


@contextmanager
def playing(folder: Path, rounds: int, seats: int) -> Iterator[World]:
    """Yield a federation with so many rounds behind it."""
    options = ("--slots-in-an-epoch", "1", "--prune-history", "64", "--gas-limit", "60000000")
    with (
        running_anvil(*options) as rpc_url,
        World(
            folder / "world",
            names=(),
            rpc_url=rpc_url,
            rounds=rounds,
            max_participants=seats,
            round_target=seats,
            round_seats=seats,
            update_reward=TokenUnits(TOKEN),
            commit_seconds=_LONG_S,
            reveal_seconds=_LONG_S,
            propose_seconds=_LONG_S,
            unbonding_seconds=10 * _LONG_S,
        ) as world,
    ):
        history = History(world, seats)
        began = time.monotonic()
        history.contract.mine_each(False)
        for number in range(1, rounds + 1):
            if number > rounds - _SPREAD_ROUNDS:
                history.contract.mine_each(True)
            history.play(RoundId(number))
            if number % 50 == 0:
                print(f"{number} rounds in {time.monotonic() - began:.0f} s", file=sys.stderr)
        yield world


def measure(folder: Path, world: World, rounds: int) -> dict[str, Any]:
    """Return how long pages take, and what memory the explorer has meanwhile."""
    location = FederationLocation(
        chain_id=world.w3.eth.chain_id,
        address=world.address,
        deployment_block=world.deployment_block,
        rpc_url=world.rpc_url,
        ipfs_url=world.daemon.url,
    )
    (folder / "federation.json").write_text(location.model_dump_json())
    results: dict[str, Any] = {}
    for name in ("first start", "second start"):
        with exploring(folder) as explored:
            results[name] = {"seconds to the first page": explored.until_ready()}
            results[name]["pages"] = explored.time_pages(world, rounds)
            results[name]["memory"] = explored.memory_over(_ASKED, world, rounds)
    return results


class Explored:
    """A running explorer."""

    def __init__(self, url: str, pid: int, began: float) -> None:
        self.url, self._process, self._began = url, psutil.Process(pid), began

    def until_ready(self) -> float:
        """Return the seconds from the start of the program to its first whole page."""
        while True:
            try:
                with urllib.request.urlopen(self.url, timeout=600) as answer:
                    answer.read()
                return round(time.monotonic() - self._began, 1)
            except urllib.error.HTTPError as error:
                if error.code != 503:
                    raise
                time.sleep(0.2)

    def ask(self, path: str) -> float:
        """Return the seconds until the last byte of a page."""
        began = time.perf_counter()
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            answer.read()
        return time.perf_counter() - began

    def time_pages(self, world: World, rounds: int) -> dict[str, dict[str, float]]:
        """Return the milliseconds of each kind of page: the first of its kind, median, worst."""
        here = f"federations/{world.address}"
        who = sorted(world.client().now().history().active)[0]
        random.seed(1)
        drawn = random.sample(range(1, rounds + 1), min(20, rounds))
        spread = range(rounds - _SPREAD_ROUNDS + 1, rounds + 1)
        kinds = {
            "a federation": [here] * 20,
            "its older rounds": [f"{here}?before={number + 1}" for number in drawn],
            # None of them was asked for before: the times of its blocks are not known either.
            "a round in few blocks": [f"{here}/rounds/{number}" for number in drawn],
            "a round in 133 blocks": [f"{here}/rounds/{number}" for number in spread],
            "a round as JSON": [f"{here}/rounds/{number}.json" for number in drawn],
            "a participant": [f"{here}/participants/{who}"] * 20,
            "the audit": [f"{here}/audit"] * 20,
            "all federations": ["federations"] * 20,
        }
        return {name: _summary([self.ask(path) for path in paths]) for name, paths in kinds.items()}

    def memory_over(self, asked: int, world: World, rounds: int) -> list[dict[str, float]]:
        """Return resident megabytes after every so many pages."""
        here, found = f"federations/{world.address}", []
        for count in range(0, 5 * asked + 1, asked):
            for number in range(count - asked, count):
                if number >= 0:
                    self.ask(f"{here}/rounds/{number % rounds + 1}")
                    self.ask(here)
            resident = self._process.memory_info().rss / 1e6
            found.append({"pages": 2 * count, "megabytes": round(resident, 1)})
        return found


@contextmanager
def exploring(folder: Path) -> Iterator[Explored]:
    """Run `commonweight explore` on the federation of a folder."""
    began = time.monotonic()
    command = [sys.executable, "-P", "-m", "commonweight", "explore", "--port", "0", "--no-audit"]
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "COMMONWEIGHT_HOME": str(folder / "home"), "PYTHONPATH": root}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield Explored(process.stdout.readline().strip(), process.pid, began)
    finally:
        process.terminate()
        process.wait()


def _summary(seconds: Sequence[float]) -> dict[str, float]:
    """Return the milliseconds of the first page, the median of all, and the worst."""
    figures = {"first": seconds[0], "median": statistics.median(seconds), "worst": max(seconds)}
    return {name: round(value * 1000, 1) for name, value in figures.items()}


def _kind(entry: dict[str, Any]) -> str:
    """Return the canonical type of an ABI's input."""
    if not entry["type"].startswith("tuple"):
        return str(entry["type"])
    inner = ",".join(_kind(each) for each in entry["components"])
    return f"({inner}){entry['type'].removeprefix('tuple')}"


def _number(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


if __name__ == "__main__":
    main()
