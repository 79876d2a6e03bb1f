"""What recomputing a round costs beside hashing its bytes once, in one run on the same cores.

    python -m benchmarks.audit      (`make bench-audit`; --megabytes 400 --participants 2)

An audit checks one round: it fetches the updates and both models, verifies every file and root,
screens, averages and compares. Beside it stands hashlib's SHA-256 over the same files, as many at a
time as there are cores. Measured twice: with the files in the audit's folder, as an audit that goes
on finds them, and fetched from a dev IPFS daemon on the same cores. Which part takes how long is
measured apart. The chain is a stand-in that answers at once; its events are real ones.
Results go to benchmarks/results/audit.json.
"""

import argparse
import hashlib
import importlib
import importlib.util
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
from chain.events import Committed, Created, FederationEvent, Proposed, Revealed, RoundOpened
from chain.federation import Federation
from chain.records import Round, Terms
from contracts.enums import Outcome
from protocol.average import weighted_mean
from protocol.commitment import compute_commitment
from protocol.encoding import STORED
from protocol.screening import screen_update
from protocol.spec import Spec
from protocol.types import Address, BasisPoints, Digest, RoundId, TokenUnits, UnixTime
from protocol.verdict import FULL_SCORE, Verdict
from rounds.compare import first_wrong_value, usable_cores
from storage.ipfs import ContentStore
from storage.layers import LayerFolder, Subject, build_manifest, initial_subject, pin

RESULTS: Final = Path(__file__).parent / "results" / "audit.json"
CHAIN_ID: Final = 31337
FEDERATION: Final = Address("0x5FbDB2315678afecb367f032d93F642f64180aa3")
ROUND: Final = RoundId(1)
LAYERS: Final = 24
CORES: Final = usable_cores()
GOAL: Final = 1.5


# --------------------------------------------------------------------------------- the federation


class Stage:
    """One honest round, proposed: its files, and a chain that tells of it."""

    def __init__(self, folder: Path, megabytes: float, participants: int) -> None:
        side = max(int((megabytes * 1e6 / LAYERS / STORED.itemsize) ** 0.5), 1)
        self.spec = make_spec(side)
        self.addresses = [Address("0x" + f"{number:040d}") for number in range(1, participants + 1)]
        self.weights = [10 * number for number in range(1, participants + 1)]
        self.initial = LayerFolder(folder / "initial")
        self.updates = [LayerFolder(folder / address) for address in self.addresses]
        self.mean = LayerFolder(folder / "mean")
        self.write_files()

    @property
    def folders(self) -> list[LayerFolder]:
        """All that an audit of the round hashes."""
        return [self.initial, *self.updates, self.mean]

    @property
    def bytes(self) -> int:
        return len(self.folders) * self.spec.total_bytes

    def write_files(self) -> None:
        """Values within ±1/16 of the model's, as an adapter's are."""
        for folder in self.folders:
            folder.path.mkdir(parents=True)
        for index in range(len(self.spec.layers)):
            count = self.spec.layer_bytes(index) // STORED.itemsize
            rng = np.random.default_rng(index)
            model = rng.integers(-(2**20), 2**20, count, dtype=np.int32)
            updates = [
                model + rng.integers(-(2**20), 2**20, count, dtype=np.int32) for _ in self.updates
            ]
            real = self.spec.layer_values(index)
            for values in (model, *updates):
                values[real:] = 0
            layers = [model, *updates, weighted_mean(updates, self.weights)]
            for folder, values in zip(self.folders, layers, strict=True):
                values.astype(STORED).tofile(folder.layer_path(index))

    def publish(self, store: ContentStore) -> Federation:
        """Pin everything; return the federation whose events tell of the round."""
        store.put_block(self.spec.to_bytes())
        first, manifest = self._pin(store, self.initial, initial_subject(CHAIN_ID))
        terms = make_terms(self.spec, first, manifest)
        events: list[FederationEvent] = []
        place = place_of(events)
        zero = Digest(bytes(32))
        deadlines: dict[str, Any] = dict.fromkeys(
            ("commit_deadline", "reveal_deadline", "propose_deadline"), UnixTime(0)
        )
        expected = len(self.updates)
        events.append(
            Created(
                **place(),
                sponsor=FEDERATION,
                spec_digest=terms.spec_digest,
                model_root=first,
                model_manifest=manifest,
                aggregators=(FEDERATION,),
            )
        )
        events.append(
            RoundOpened(
                **place(),
                round=ROUND,
                aggregator=FEDERATION,
                seed=zero,
                expected=expected,
                **deadlines,
            )
        )
        reveals = []
        for who, examples, folder in zip(self.addresses, self.weights, self.updates, strict=True):
            root, digest = self._pin(store, folder, subject("update"))
            arguments = (FEDERATION, ROUND, who, root, digest, examples, zero)
            commitment = compute_commitment(*arguments)
            events.append(Committed(**place(), round=ROUND, participant=who, commitment=commitment))
            told: dict[str, Any] = {
                "root": root,
                "manifest": digest,
                "examples": examples,
                "salt": zero,
            }
            reveals.append((who, told))
        events += [
            Revealed(**place(), round=ROUND, participant=who, **told) for who, told in reveals
        ]
        root, digest = self._pin(store, self.mean, subject("model"))
        verdicts = tuple(
            Verdict(who, weight, FULL_SCORE, 0)
            for who, weight in zip(self.addresses, self.weights, strict=True)
        )
        events.append(
            Proposed(
                **place(),
                round=ROUND,
                aggregator=FEDERATION,
                root=root,
                manifest=digest,
                challenge_deadline=UnixTime(0),
                verdicts=verdicts,
            )
        )
        return stand_in(terms, events, expected)

    def _pin(
        self, store: ContentStore, folder: LayerFolder, about: Subject
    ) -> tuple[Digest, Digest]:
        root = folder.root(self.spec)
        return root, pin(store, folder, build_manifest(folder, self.spec, about, root))


def subject(kind: Any) -> Subject:
    return Subject(CHAIN_ID, FEDERATION, ROUND, kind)


def place_of(events: Sequence[object]) -> Callable[[], dict[str, Any]]:
    """Return what gives an event that is to be appended to `events` its place."""
    hashed = Digest(bytes(32))

    def place() -> dict[str, Any]:
        at = {"block_number": 1, "log_index": len(events)}
        return {**at, "block_hash": hashed, "transaction_hash": hashed}

    return place


def proposed_round(participants: int) -> Round:
    """Return what the contract says of a round that everybody revealed in and that is proposed."""
    none, some = Digest(bytes(32)), UnixTime(1)
    return Round(
        commit_deadline=some,
        reveal_deadline=some,
        propose_deadline=some,
        challenge_deadline=some,
        expected=participants,
        committed=participants,
        revealed=participants,
        outcome=Outcome.OPEN,
        open_requests=0,
        proposals=1,
        seed=none,
        model_root=none,
        model_manifest=none,
        verdicts_hash=none,
    )


def stand_in(terms: Terms, events: list[FederationEvent], participants: int) -> Federation:
    """Return what an audit of one round asks of a federation."""
    eth = SimpleNamespace(
        chain_id=CHAIN_ID, block_number=1, get_block=lambda number: {"hash": bytes(32)}
    )
    federation = SimpleNamespace(
        address=FEDERATION,
        w3=SimpleNamespace(eth=eth),
        terms=lambda: terms,
        deployment_block=1,
        read_events=lambda from_block, to_block: events,
        round_count=lambda block: ROUND,
        get_round=lambda round_id, block: proposed_round(participants),
    )
    return cast(Federation, federation)


def make_spec(side: int) -> Spec:
    digest = "0" * 64
    base = {"name": "bench", "revision": "1", "weights_digest": digest}
    schedule = {"learning_rate": 1.0, "scheduler": "constant", "warmup_steps": 0, "seed": 0}
    numeric = {"kind": "none", "double_quantization": False, "compute_dtype": "float32"}
    return Spec.model_validate(
        {
            "base_model": {**base, "tokenizer_digest": digest, "chat_template_digest": digest},
            "quantization": numeric,
            "lora": {"rank": 1, "alpha": 1, "dropout": 0.0, "targets": ["all"], "mode": "fedit"},
            "layers": [
                {"name": f"layer{index:03d}", "shape": [side, side]} for index in range(LAYERS)
            ],
            "training": {**schedule, "batch_size": 1, "steps": 1, "sequence_length": 1},
            "evaluation_digest": digest,
            "screening": {"max_update_norm": 1e9},
            "libraries": {},
        }
    )


def make_terms(spec: Spec, root: Digest, manifest: Digest) -> Terms:
    none = TokenUnits(0)
    return Terms(
        token=FEDERATION,
        spec_digest=spec.digest(),
        initial_model_root=root,
        initial_model_manifest=manifest,
        leaf_count=spec.leaf_count,
        tree_depth=spec.tree_depth,
        leaf_values=spec.encoding.leaf_values,
        max_participants=16,
        weight_cap=2**20,
        rounds=1,
        sampling_fraction=BasisPoints(10_000),
        round_reward=none,
        aggregator_fee=none,
        participant_stake=none,
        missed_reveal_penalty=none,
        aggregator_bond=none,
        availability_deposit=none,
        commit_seconds=0,
        reveal_seconds=0,
        propose_seconds=0,
        challenge_seconds=0,
        response_seconds=0,
        unbonding_seconds=0,
        closes_at=UnixTime(0),
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

    def screen(update: LayerFolder) -> None:
        model_root = Digest(bytes(32))
        screen_update(stage.spec, root_of[update], update.blocks, stage.initial.blocks, model_root)

    def in_threads(work: Callable[[LayerFolder], object], folders: list[LayerFolder]) -> None:
        with ThreadPoolExecutor(CORES) as pool:
            list(pool.map(work, folders))

    root_of = {update: update.root(stage.spec) for update in stage.updates}
    models = [stage.initial, stage.mean]
    return {
        "sha256 of every file": timed(lambda: hash_once(stage)),
        "roots of the updates": timed(
            lambda: in_threads(lambda update: update.root(stage.spec), stage.updates)
        ),
        "roots, range and norm of the updates": timed(lambda: in_threads(screen, stage.updates)),
        "roots of both models": timed(
            lambda: in_threads(lambda model: model.root(stage.spec), models)
        ),
        "mean and comparison": timed(
            lambda: first_wrong_value(stage.spec, stage.updates, stage.weights, stage.mean)
        ),
    }


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


def load_compiled_loops() -> bool:
    """Load the compiled loops, where this installation has them; return whether it has."""
    if importlib.util.find_spec("protocol.speed") is None:
        return False
    return importlib.import_module("protocol.speed").load() is not None


def run(megabytes: float, participants: int, repeats: int, scratch: Path) -> dict[str, Any]:
    """Return everything measured."""
    compiled = load_compiled_loops()
    stage = Stage(scratch / "files", megabytes, participants)
    with daemon(scratch / "ipfs") as url:
        store = ContentStore(url)
        federation = stage.publish(store)
        rows = [measure(stage, federation, store, scratch / "audit") for _ in range(repeats)]
    return {
        "machine": {"cores": CORES, "cpu": cpu_name(), "python": platform.python_version()},
        "compiled_loops": compiled,
        "update_bytes": stage.spec.total_bytes,
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
        f"{found['participants']} updates of {found['update_bytes'] / 1e6:.0f} MB and two models,"
        f" {CORES} cores, hashlib {found['sha256_mb_per_s']:.0f} MB/s",
        f"audit, files on disk:   {found['on_disk_ratio']:.2f} x hashlib (goal {GOAL})",
        f"audit, from the daemon: {found['fetched_ratio']:.2f} x hashlib",
        *(f"  {seconds:7.2f} s  {part}" for part, seconds in found["parts_seconds"].items()),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--megabytes", type=float, default=400.0, help="of one update")
    parser.add_argument("--participants", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="commonweight-bench-") as scratch:
        found = run(options.megabytes, options.participants, options.repeats, Path(scratch))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(found, indent=2) + "\n")
    print(told(found))


if __name__ == "__main__":
    main()
