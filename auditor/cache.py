"""Results that an audit need not compute twice, kept on the auditor's own disk.

    FOLDER/31337-0x5FbDB2315678afecb367f032d93F642f64180aa3/
      events-9f86d081884c7d65.jsonl     the events up to a block, as one node reported them
      initial-model.json, round-0001.json, …     checks that passed
      round-0001-evaluated.json, …      the same where losses were evaluated
      files/                            layer files of rounds that are not done yet

- A layer file from here is hashed like one that was just fetched.
- A record begins with the SHA-256 of the rest and carries all that it depends on. If either does
  not match, the record is ignored and the work is done again.
- Events (chain/event_index.py) count only while the chain still has the block up to which they go.

The disk is trusted: whoever can write to it can forge a record. `--no-cache` reads none.
"""

import hashlib
import json
import platform
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ValidationError

import auditor
import chain
import contracts
import ethereum
import profiling
import protocol
import rounds
import storage
from auditor.check_result import CheckResult
from chain.event_index import SETTLED_BLOCKS, EventIndex
from chain.events import FederationEvent
from chain.federation import Federation
from chain.history import RoundHistory
from chain.records import Model
from protocol.errors import Misconfigured
from protocol.types import RoundId
from storage.files import locked, write_atomically

CONFIRMATIONS: Final = SETTLED_BLOCKS


class AuditCache:
    """The cache of one federation, below `folder`, which federations may share.

    `evaluator` is a digest of what evaluates models in this audit, None where nothing does. Events
    are cached too, unless the federation's client keeps them itself (`keeps_events`).
    """

    def __init__(
        self,
        folder: Path,
        federation: Federation,
        confirmations: int = CONFIRMATIONS,
        evaluator: str | None = None,
        *,
        keeps_events: bool = True,
    ) -> None:
        self._federation = federation
        self._keeps_events = keeps_events
        self._confirmations = confirmations
        self._evaluator = evaluator
        self._chain_id = federation.chain_id
        self.folder = folder / f"{self._chain_id}-{federation.address}"

    @property
    def files(self) -> Path:
        """Where layer files are kept until their round is done."""
        return self.folder / "files"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the cache for one audit, waiting while another audit of the federation runs.

        Raises Misconfigured when the folder cannot be written.
        """
        try:
            with locked(self.folder):
                for part in self.files.rglob(".*.layer.*"):  # left by an audit that was killed
                    part.unlink()
                yield
        except OSError as error:
            raise Misconfigured(f"cache {self.folder}: {error.strerror or error}") from error

    def is_settled(self, block: int, head: int) -> bool:
        """Whether `block` is so deep below `head` that its contents may be cached."""
        return block + self._confirmations <= head

    # ------------------------------------------------------------------ events

    @property
    def index(self) -> EventIndex | None:
        """The events up to a block, as the node of this audit reported them."""
        if not self._keeps_events:
            return None
        key, node = json.dumps(self._key()), self._federation
        return EventIndex(
            self.folder,
            node.w3,
            node.address,
            node.deployment_block,
            key=key,
            settled_blocks=self._confirmations,
        )

    # ------------------------------------------------------------------ checks

    def read_round(self, history: RoundHistory, before: Model) -> list[CheckResult] | None:
        """Return the checks of a round that passed before; None when it has to be recomputed."""
        return self._read(self._round_path(history.round_id), self._round_key(history, before))

    def write_round(
        self, history: RoundHistory, before: Model, checks: Sequence[CheckResult]
    ) -> None:
        """Cache the checks of a finalized round, none of which need be made again."""
        assert history.finalized is not None
        assert all(check.is_final for check in checks)
        path, key = self._round_path(history.round_id), self._round_key(history, before)
        self._write(path, _Record(key=key, checks=list(checks)))

    def read_model(self, model: Model) -> CheckResult | None:
        """Return the initial model's check if it passed before, or None."""
        checks = self._read(self._model_path(), self._model_key(model))
        return checks[0] if checks else None

    def write_model(self, model: Model, check: CheckResult) -> None:
        """Cache the check of the initial model, which passed."""
        assert check.passed
        self._write(self._model_path(), _Record(key=self._model_key(model), checks=[check]))

    def _model_path(self) -> Path:
        return self.folder / "initial-model.json"

    def _model_key(self, model: Model) -> dict[str, Any]:
        return {**self._key(), "model": [model.root.hex(), model.manifest.hex()]}

    def _round_path(self, round_id: RoundId) -> Path:
        evaluated = "" if self._evaluator is None else "-evaluated"
        return self.folder / f"round-{round_id:04d}{evaluated}.json"

    def _round_key(self, history: RoundHistory, before: Model) -> dict[str, Any]:
        """Return all that the checks of a round depend on."""
        # Events carry block hashes: after a reorganisation the same round has another key.
        told = [_event_as_json(event) for event in history.events]
        finalized = history.finalized
        return {
            **self._key(),
            "evaluator": self._evaluator,
            "round": history.round_id,
            "finalized_in": finalized.block_hash.hex() if finalized else None,
            "events": _digest(json.dumps(told)),
            "model_before": [before.root.hex(), before.manifest.hex()],
        }

    # ----------------------------------------------------------------- records

    def _key(self) -> dict[str, Any]:
        terms = self._federation.terms()
        return {
            "chain_id": self._chain_id,
            "federation": self._federation.address,
            "spec": terms.identity.spec_digest.hex(),
            "terms": _digest(repr(terms)),
            "software": software_digest(),
        }

    @staticmethod
    def _write(path: Path, record: "_Record") -> None:
        body = record.model_dump_json().encode()
        write_atomically(path, hashlib.sha256(body).hexdigest().encode() + b"\n" + body)

    @staticmethod
    def _read(path: Path, key: dict[str, Any]) -> list[CheckResult] | None:
        """Return the checks of the record at `path` if it is intact and has this `key`."""
        try:
            digest, _, body = path.read_bytes().partition(b"\n")
        except OSError:
            return None
        # Damaged on disk. The record only saves time, so this is no error.
        if hashlib.sha256(body).hexdigest().encode() != digest:
            return None
        try:
            record = _Record.model_validate_json(body, strict=True)
        except ValidationError:
            return None
        return record.checks if record.key == key else None


class _Record(BaseModel):
    """What a file says: checks that passed, and all that they depend on."""

    key: dict[str, Any]
    checks: list[CheckResult]


@cache
def software_digest() -> str:
    """Return the SHA-256 of all code that an audit's result depends on."""
    packages = auditor, chain, contracts, ethereum, profiling, protocol, rounds, storage
    return code_digest(packages, f"{platform.python_version()} {np.__version__}")


def code_digest(packages: Iterable[ModuleType], versions: str) -> str:
    """Return the SHA-256 of all code of some packages, and of the versions it was used with."""
    # Not the version number, which a fault corrected in a working copy would not change.
    hasher = hashlib.sha256(versions.encode())
    for package in packages:
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
            hasher.update(f"{package.__name__}/{path.relative_to(root)}\0".encode())
            hasher.update(hashlib.sha256(path.read_bytes()).digest())
    return hasher.hexdigest()


def _event_as_json(event: FederationEvent) -> dict[str, Any]:
    return {"event": type(event).__name__, **event.model_dump(mode="json")}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
