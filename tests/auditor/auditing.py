"""An audit as the tests run it: over a store that tells what it was asked for."""

import math
import threading
from pathlib import Path

from auditor.cache import AuditCache
from auditor.check_result import CheckResult
from auditor.replay import Audit
from protocol.cid import raw_cid
from protocol.types import Digest, RoundId
from rounds.score import Evaluate
from storage.ipfs import ContentStore
from tests.world import World


class TellingStore(ContentStore):
    """Notes each block of a layer file: its CID with "asked", then "had" or "failed"."""

    def __init__(self, api_url: str, timeout_s: float = 30.0) -> None:
        super().__init__(api_url, timeout_s)
        self.told: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    def get_block(
        self, digest: Digest, size: int | None = None, deadline: float = math.inf
    ) -> bytes:
        # Blocks of layer files alone have a size that is known before.
        cid = "" if size is None else raw_cid(digest)
        self._tell("asked", cid)
        try:
            block = super().get_block(digest, size, deadline)
        except BaseException:
            self._tell("failed", cid)
            raise
        self._tell("had", cid)
        return block

    def _tell(self, what: str, cid: str) -> None:
        with self._lock:
            self.told += [(what, cid)] if cid else []

    @property
    def fetched(self) -> int:
        return sum(what == "had" for what, _ in self.told)


class Audited:
    """One audit with a cache in `folder`, run to its end."""

    def __init__(
        self,
        world: World,
        folder: Path,
        confirmations: int = 0,
        url: str | None = None,
        rounds: set[RoundId] | None = None,
        evaluate: Evaluate | None = None,
        evaluator: str | None = None,
    ) -> None:
        client = world.client()
        self.store = TellingStore(url or world.daemon.url)
        self.cache = AuditCache(folder, client, confirmations, evaluator)
        with self.cache.held():
            files = self.cache.files
            self.audit = Audit(client, self.store, files, self.cache, evaluate)
            self.lines: list[CheckResult] = list(self.audit.run(rounds))

    @property
    def failed(self) -> list[CheckResult]:
        return [line for line in self.lines if not line.passed]


def layer_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.layer"))
