"""What recomputing a round costs beside hashing its bytes once, in one run on the same cores.

    python -m benchmarks.audit      (`make bench-audit`; --millions 100 --participants 8)

An audit checks one round: it fetches the updates and both models, verifies every block and root,
screens, compares the updates with one another, averages and compares. Beside it stands hashlib's
SHA-256 over the same files, as many at a time as there are cores: one byte a value of each update,
four of each model. Measured twice: with the files in the audit's folder, as an audit that goes on
finds them, and fetched from a dev IPFS daemon on the same cores. Which part takes how long is
measured apart. The chain is a stand-in that answers at once; its events are real ones.
Results go to benchmarks/results/audit.json.
"""

import argparse
import hashlib
import itertools
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import numpy as np

from auditor.replay import Audit
from benchmarks.files import GRID, square_spec, write_random
from chain.events import (
    Committed,
    FederationEvent,
    Joined,
    Proposed,
    Revealed,
    RoundOpened,
    SeedFixed,
)
from chain.federation import Federation
from chain.history import History
from chain.records import Identity, Money, Rules, Seats, Terms, Windows
from contracts.enums import Privacy, Scoring
from protocol import speed
from protocol.commitment import (
    PREFIX_BYTES,
    compute_commitment,
    compute_seed,
    compute_update_digest,
)
from protocol.encoding import PublishedKind
from protocol.screening import screen_update
from protocol.spec import Spec
from protocol.types import Address, Digest, RoundId, TokenUnits, UnixTime
from protocol.verdict import FULL_SCORE, Verdict
from rounds.average import average_layers
from rounds.compare import first_wrong_value, usable_cores
from rounds.similar import compare_updates
from storage.digests import block_digests
from storage.ipfs import ContentStore
from storage.layers import LayerFolder, Subject, build_manifest, initial_subject, pin

RESULTS: Final = Path(__file__).parent / "results" / "audit.json"
CHAIN_ID: Final = 31337
FEDERATION: Final = Address("0x5FbDB2315678afecb367f032d93F642f64180aa3")
ROUND: Final = RoundId(1)
LAYERS: Final = 24
CORES: Final = usable_cores()
GOAL: Final = 1.5

# The blocks of the stand-in's chain: who joins in the opening's block is no member.
JOINED, OPENED, SEEDED = 1, 2, 3
NO_DIGEST: Final = Digest(bytes(32))


# --------------------------------------------------------------------------------- the federation


class Stage:
    """One honest round, proposed: its files, and a chain that tells of it."""

    def __init__(self, folder: Path, millions: float, participants: int) -> None:
        side = max(int((millions * 1e6 / LAYERS) ** 0.5), 1)
        self.spec = square_spec(LAYERS, side)
        self.addresses = [Address("0x" + f"{number:040d}") for number in range(1, participants + 1)]
        self.weights = [10 * number for number in range(1, participants + 1)]
        self.initial = LayerFolder(folder / "initial", "model")
        self.updates = [LayerFolder(folder / address, "update") for address in self.addresses]
        self.moved = LayerFolder(folder / "moved", "model")
        for seed, each in enumerate([self.initial, *self.updates]):
            write_random(self.spec, each, seed)
        round_of = (self.initial, self.updates, self.weights, self.moved, ROUND)
        average_layers(self.spec, *round_of, CORES)

    @property
    def folders(self) -> list[LayerFolder]:
        """All that an audit of the round hashes."""
        return [self.initial, *self.updates, self.moved]

    @property
    def bytes(self) -> int:
        """The size of all layer files of the round."""
        return sum(self.spec.total_bytes(folder.kind) for folder in self.folders)

    def publish(self, store: ContentStore) -> Federation:
        """Pin everything; return the federation whose events tell of the round."""
        store.put_block(self.spec.to_bytes())
        first, manifest = self._pin(store, self.initial, initial_subject(CHAIN_ID))
        terms = make_terms(self.spec, first, manifest)
        place = places()
        events: list[FederationEvent] = [
            Joined(**place(JOINED), participant=who, amount=TokenUnits(0)) for who in self.addresses
        ]
        expected = len(self.updates)
        opening: dict[str, Any] = {
            "aggregator": FEDERATION,
            "opened_block": OPENED,
            "active": expected,
        }
        events.append(RoundOpened(**place(OPENED), round=ROUND, **opening))
        deadlines: dict[str, Any] = dict.fromkeys(
            ("commit_deadline", "reveal_deadline", "propose_deadline"), UnixTime(0)
        )
        seed = compute_seed(FEDERATION, ROUND, NO_DIGEST, 0)
        events.append(SeedFixed(**place(SEEDED), round=ROUND, seed=seed, **deadlines))
        revealed, verdicts = [], []
        for who, examples, folder in zip(self.addresses, self.weights, self.updates, strict=True):
            root, digest = self._pin(store, folder, subject("update"))
            opened: dict[str, Any] = {"root": root, "manifest": digest, "examples": examples}
            revealed.append({"participant": who, "salt": NO_DIGEST, **opened})
            kept = compute_update_digest(root, digest, examples)[:PREFIX_BYTES]
            verdicts.append(Verdict(who, kept, examples, FULL_SCORE, 0))
            commitment = compute_commitment(
                FEDERATION, ROUND, who, root, digest, examples, NO_DIGEST
            )
            kept = Digest(commitment[:PREFIX_BYTES].ljust(32, b"\0"))
            events.append(Committed(**place(SEEDED), round=ROUND, participant=who, commitment=kept))
        events += [Revealed(**place(SEEDED), round=ROUND, **each) for each in revealed]
        root, digest = self._pin(store, self.moved, subject("model"))
        events.append(
            Proposed(
                **place(SEEDED),
                round=ROUND,
                aggregator=FEDERATION,
                root=root,
                manifest=digest,
                challenge_deadline=UnixTime(0),
                verdicts=tuple(verdicts),
            )
        )
        return stand_in(terms, events)

    def _pin(
        self, store: ContentStore, folder: LayerFolder, about: Subject
    ) -> tuple[Digest, Digest]:
        root = folder.root(self.spec)
        return root, pin(store, folder, build_manifest(folder, self.spec, about, root))


def subject(kind: PublishedKind) -> Subject:
    return Subject(CHAIN_ID, FEDERATION, ROUND, kind)


def places() -> Callable[[int], dict[str, Any]]:
    """Return what gives the next event its place in a block."""
    numbers = itertools.count()

    def place(block: int) -> dict[str, Any]:
        at = {"block_number": block, "log_index": next(numbers)}
        return {**at, "block_hash": NO_DIGEST, "transaction_hash": NO_DIGEST}

    return place


def stand_in(terms: Terms, events: Sequence[FederationEvent]) -> Federation:
    """Return what an audit of one round asks of a federation."""
    header = {"hash": bytes(32), "mixHash": bytes(32)}
    eth = SimpleNamespace(block_number=SEEDED, get_block=lambda number: header)
    federation = SimpleNamespace(
        address=FEDERATION,
        chain_id=CHAIN_ID,
        w3=SimpleNamespace(eth=eth),
        terms=lambda: terms,
        history=lambda: History.fold(events, terms.money.availability_deposit),
    )
    federation.at = lambda block: federation
    return cast(Federation, federation)


def make_terms(spec: Spec, root: Digest, manifest: Digest) -> Terms:
    none = TokenUnits(0)
    return Terms(
        identity=Identity(
            spec_digest=spec.digest(),
            initial_model_root=root,
            initial_model_manifest=manifest,
            zero_root=spec.zero_root,
            leaf_count=spec.leaf_count,
            tree_depth=spec.tree_depth,
            grid_bits=GRID,
            grid_every=0,
        ),
        seats=Seats(
            max_participants=64,
            min_participants=1,
            round_target=64,
            round_seats=64,
            max_missed=1,
            by_invitation=False,
            weight_cap=2**17,
            rounds=1,
        ),
        money=Money(
            token=FEDERATION,
            update_reward=none,
            aggregator_fee=none,
            participant_stake=none,
            missed_reveal_penalty=none,
            aggregator_bond=none,
            availability_deposit=none,
        ),
        windows=Windows(
            commit_seconds=0,
            reveal_seconds=0,
            propose_seconds=0,
            challenge_seconds=0,
            response_seconds=0,
            unbonding_seconds=0,
            closes_at=UnixTime(0),
        ),
        rules=Rules(Privacy.CLEAR, Scoring.EQUAL),
    )


# -------------------------------------------------------------------------------------- measuring


def hash_once(stage: Stage) -> None:
    """What everything is compared with: hashlib over every file, in threads."""

    def digest(path: Path) -> bytes:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    layers = range(len(stage.spec.layers))
    paths = [folder.layer_path(index) for folder in stage.folders for index in layers]
    with ThreadPoolExecutor(CORES) as pool:
        list(pool.map(digest, paths))


def audit(federation: Federation, store: ContentStore, folder: Path) -> None:
    """Recompute the round; fails unless every check passes."""
    made = Audit(federation, store, folder)
    checks = list(made.check_round(made.context(ROUND)))
    failed = [check.line() for check in checks if not check.passed]
    assert not failed, failed
    assert {check.section for check in checks} == {"§4", "§6", "§7", "§8"}


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(stage: Stage, federation: Federation, store: ContentStore, folder: Path) -> Any:
    """Return one repeat: the hash before and after, and the two audits between."""
    shutil.rmtree(folder, ignore_errors=True)
    first = timed(lambda: hash_once(stage))
    fetched = timed(lambda: audit(federation, store, folder))
    second = timed(lambda: hash_once(stage))
    on_disk = timed(lambda: audit(federation, store, folder))
    third = timed(lambda: hash_once(stage))
    return {
        "sha256": [first, second, third],
        "fetched": fetched,
        "on_disk": on_disk,
        "fetched_ratio": fetched / ((first + second) / 2),
        "on_disk_ratio": on_disk / ((second + third) / 2),
    }


def parts(stage: Stage) -> dict[str, float]:
    """Return how long each part of an audit takes by itself, in seconds."""
    spec, updates = stage.spec, stage.updates
    root_of = {update: update.root(spec) for update in updates}
    models = [stage.initial, stage.moved]

    def screen(update: LayerFolder) -> None:
        screen_update(spec, root_of[update], update.blocks, ROUND)

    def in_threads(work: Callable[[LayerFolder], object], folders: list[LayerFolder]) -> None:
        with ThreadPoolExecutor(CORES) as pool:
            list(pool.map(work, folders))

    works: dict[str, Callable[[], object]] = {
        "sha256 of every file": lambda: hash_once(stage),
        "sha256 of every block": lambda: block_digests(
            [path for folder in stage.folders for path in folder.paths(spec)], CORES
        ),
        "roots of the updates": lambda: in_threads(lambda each: each.root(spec), updates),
        "roots, range and norm of the updates": lambda: in_threads(screen, updates),
        "similarity of the updates": lambda: compare_updates(spec, updates, [], None),
        "roots of both models": lambda: in_threads(lambda each: each.root(spec), models),
        "average and comparison": lambda: first_wrong_value(
            spec, stage.initial, updates, stage.weights, stage.moved, ROUND
        ),
    }
    return {name: timed(work) for name, work in works.items()}


@contextmanager
def daemon(repo: Path) -> Iterator[str]:
    """Yield the URL of a dev IPFS daemon in a process of its own."""
    command = [sys.executable, "-m", "devnet.ipfs.daemon", "--repo", str(repo), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(timeout=30)


def run(millions: float, participants: int, repeats: int, scratch: Path) -> dict[str, Any]:
    """Return everything measured."""
    compiled = speed.load() is not None
    stage = Stage(scratch / "files", millions, participants)
    with daemon(scratch / "ipfs") as url:
        store = ContentStore(url)
        federation = stage.publish(store)
        rows = [measure(stage, federation, store, scratch / "audit") for _ in range(repeats)]
    return {
        "machine": {"cores": CORES, "cpu": cpu_name(), "python": platform.python_version()},
        "compiled_loops": compiled,
        "update_bytes": stage.spec.total_bytes("update"),
        "model_bytes": stage.spec.total_bytes("model"),
        "participants": participants,
        "hashed_bytes": stage.bytes,
        "repeats": rows,
        "sha256_mb_per_s": stage.bytes / min(min(row["sha256"]) for row in rows) / 1e6,
        "on_disk_ratio": float(np.median([row["on_disk_ratio"] for row in rows])),
        "fetched_ratio": float(np.median([row["fetched_ratio"] for row in rows])),
        "goal": GOAL,
        "parts_seconds": parts(stage),
    }


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "")


def told(found: dict[str, Any]) -> str:
    lines = [
        f"{found['participants']} updates of {found['update_bytes'] / 1e6:.0f} MB and two models of"
        f" {found['model_bytes'] / 1e6:.0f} MB, {CORES} cores,"
        f" hashlib {found['sha256_mb_per_s']:.0f} MB/s",
        f"audit, files on disk:   {found['on_disk_ratio']:.2f} x hashlib (goal {GOAL})",
        f"audit, from the daemon: {found['fetched_ratio']:.2f} x hashlib",
        *(f"  {seconds:7.2f} s  {part}" for part, seconds in found["parts_seconds"].items()),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--millions", type=float, default=100.0, help="million values of a model")
    parser.add_argument("--participants", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="commonweight-bench-") as scratch:
        found = run(options.millions, options.participants, options.repeats, Path(scratch))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=2) + "\n")
    print(told(found))


if __name__ == "__main__":
    main()
