"""What an audit and the roles keep on their own disks, damaged or forged, before what reads it."""

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from auditor.cache import AuditCache
from auditor.check_result import CheckResult
from chain.history import History
from chain.records import Model
from protocol.types import RoundId, TokenUnits
from tests.auditor.auditing import Audited
from tests.fuzz.mutate import mutate_bytes, mutate_value, to_json
from tests.world import World

ONE = RoundId(1)


@dataclass(frozen=True)
class KeptFile:
    """A file that says its own SHA-256, which `seal` adds to a record; and what reads it."""

    path: Path
    body: bytes
    seal: Callable[[bytes], bytes]
    read: Callable[[], object]

    def play(self, random: random.Random) -> None:
        """Read the file with a change, most often one that its own digest agrees with."""
        match random.randrange(4):
            case 0:
                changed = mutate_bytes(random, self.seal(self.body))
            case 1:
                changed = self.seal(mutate_bytes(random, self.body))
            case _:
                changed = self.seal(to_json(mutate_value(random, json.loads(self.body))))
        self.path.write_bytes(changed)
        self.read()


def kept_by(world: World, folder: Path) -> dict[str, KeptFile]:
    """Return the files that an audit of a world that has played wrote below `folder`, by name."""
    cache = Audited(world, folder).cache
    told, identity = world.told(ONE), world.client().terms().identity
    before = Model(identity.initial_model_root, identity.initial_model_manifest)

    def record(name: str, read: Callable[[], list[CheckResult] | None]) -> KeptFile:
        path = cache.folder / name
        _, _, body = path.read_bytes().partition(b"\n")
        assert read()
        return KeptFile(path, body, _before, lambda: [each.line() for each in read() or ()])

    def model() -> list[CheckResult] | None:
        check = cache.read_model(before)
        return None if check is None else [check]

    (events,) = cache.folder.glob("events-*.jsonl")
    body, _, _ = events.read_bytes().strip().rpartition(b" ")
    return {
        "audited round": record("round-0001.json", lambda: cache.read_round(told, before)),
        "audited model": record("initial-model.json", model),
        "event index": KeptFile(events, body, _after, lambda: _load(cache)),
    }


def _load(cache: AuditCache) -> History | None:
    assert cache.index is not None
    known = cache.index.load()
    return None if known is None else History.fold(known[0], TokenUnits(1))


def _before(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode() + b"\n" + body


def _after(body: bytes) -> bytes:
    return b"\n%s %s\n" % (body, hashlib.sha256(body).hexdigest().encode())
