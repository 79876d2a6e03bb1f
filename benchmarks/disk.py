"""Bytes on the disk of each role over many rounds, by the aggregator's `keep`.

    python -m benchmarks.disk      (`make bench-disk`; --rounds 200 --every 20)

Three participants, an aggregator, a watcher and an auditor play on anvil, each with the code, the
files and the store that its command has; training alone is replaced by drawn numbers, and a store
is a folder behind a web server. After every 20 rounds the auditor audits what is new, then all
files of each state folder and of each store are counted. The model has 17.6 kB and an update
4.4 kB: what matters is what grows. Results go to benchmarks/results/disk.json.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Literal, get_args

from aggregator.leader import Leader, open_aggregator
from aggregator.settings import AggregatorSettings
from auditor.cache import AuditCache
from auditor.check_result import CheckResult
from auditor.replay import Audit
from auditor.watch import Watcher
from benchmarks.common import RESULTS, write_results
from chain.federation import Federation, connect_federation
from chain.location import FederationLocation
from contracts.enums import Status
from ethereum.wallet import Wallet
from node.follower import Follower
from node.participant import Participant
from node.settings import ParticipantSettings
from profiling.recorder import PROFILE
from runtime.events import ignore
from runtime.service import Service
from runtime.stores import StoreSettings
from storage.bucket import BucketStore
from storage.capacity import bytes_in
from storage.sources import Sources
from tests.storage.test_bucket import web_server
from tests.world import NAMES, SyntheticTrainer, World

Keep = Literal["all", "disputable"]
ROLES: Final = ("aggregator", "participant", "watcher", "auditor")
WINDOW_S: Final = 60  # for challenges: over once the watcher has judged


class Stage:
    """A world whose roles each have a state folder and a store of their own, below `folder`."""

    def __init__(self, world: World, folder: Path, keep: Keep, stack: ExitStack) -> None:
        self.world, self.folder, self._stack = world, folder, stack
        self.location = FederationLocation(
            chain_id=world.w3.eth.chain_id,
            address=world.address,
            deployment_block=world.deployment_block,
            rpc_url=world.rpc_url,
            ipfs_url=world.daemon.url,
        )
        (folder / "f.json").write_text(self.location.model_dump_json())
        # The sponsor publishes what it founded, until the aggregator has it.
        sponsor = BucketStore(str(self._bucket("sponsor")))
        sponsor.put_blocks(path.read_bytes() for path in (world.folder / "ipfs").rglob("*.data"))
        world.client(world.sponsor.wallet).announce(str(self._settings("sponsor").public))
        self.lead = self._leader(keep)
        self.followers = [self._follower(name) for name in NAMES]
        self.watcher = Watcher(
            connect_federation(self.location, world.auditor),
            Sources(None, self._settings("watcher").rules),
            self.state("watcher"),
            lambda line: None,
        )

    def play(self) -> None:
        """Play one round to its end."""
        before = self.lead.federation.round_count()
        while self.lead.federation.round_count() == before:
            assert self.lead.step()
        assert self.lead.federation.status(self.lead.federation.round_count()) is Status.FINALIZED

    def audit(self) -> list[CheckResult]:
        """Audit with a cache, as `audit run` does; return what did not pass."""
        federation = connect_federation(self.location)
        cache = AuditCache(self.state("auditor"), federation)
        with cache.held():
            audit = Audit(federation, self._store("auditor"), cache.files, cache)
            return [check for check in audit.run() if not check.passed]

    def sizes(self) -> dict[str, dict[str, int]]:
        """Return the bytes of each role's files, events, profile and store."""
        found = {}
        for role in ROLES:
            name = NAMES[0] if role == "participant" else role
            state = self.state(name)
            parts = {"events": "events-*.jsonl", "profile": PROFILE}
            sizes = {
                part: sum(path.stat().st_size for path in state.rglob(pattern))
                for part, pattern in parts.items()
            }
            files = bytes_in(state) - sum(sizes.values())
            found[role] = {"files": files, **sizes, "store": bytes_in(self._bucket(name))}
        return found

    def state(self, name: str) -> Path:
        """Return the state folder of a role."""
        return self.folder / "state" / name

    def _bucket(self, name: str) -> Path:
        return self.folder / "www" / name / "a"

    def _settings(self, name: str) -> StoreSettings:
        folder = self._bucket(name)
        folder.mkdir(parents=True, exist_ok=True)
        line = self._stack.enter_context(web_server(folder.parent)).line
        return StoreSettings(bucket=str(folder), public=line, allow_private=True)

    def _store(self, name: str) -> Sources:
        return Sources(None, self._settings(name).rules)

    def _leader(self, keep: Keep) -> Leader:
        settings = AggregatorSettings(
            federation=self.folder / "f.json",
            keystore=self.folder / "unused",
            state=self.state("aggregator"),
            keep=keep,
            store=self._settings("aggregator"),
        )
        service = Service(ignore)
        service.pause = self._let_others_act  # type: ignore[method-assign]
        opened = open_aggregator(settings, self.world.aggregator_wallet, ignore, dev=True)
        opened.wait = service.pause
        return Leader(opened, settings, service)

    def _follower(self, name: str) -> Follower:
        wallet, state = self.world.wallets[name], self.state(name)
        settings = ParticipantSettings(
            federation=self.folder / "f.json",
            keystore=self.folder / "unused",
            state=state,
            data=self.folder / "unused",
            model="unused",
            store=self._settings(name),
        )
        federation = self._connect(wallet, state)
        participant = Participant(
            federation,
            settings.store.open(self.location.ipfs_url, wallet.address),
            SyntheticTrainer(name, 10),
            state,
        )
        participant.public = settings.store.reader()
        participant.owns_store = settings.store.is_own(self.location.ipfs_url)
        return Follower(participant, settings)

    def _connect(self, wallet: Wallet, state: Path) -> Federation:
        journal = state / f"transactions-{wallet.address}.json"
        federation = connect_federation(self.location, wallet, journal=journal)
        federation.keep_events(state / federation.address)
        return federation

    def _let_others_act(self) -> None:
        """Let everybody look at the chain once, and pass the window that the watcher has judged."""
        for follower in self.followers:
            follower.step()
        self.watcher.look()
        federation = self.watcher.federation
        newest = federation.round_count()
        if newest and federation.status(newest) is Status.CHALLENGE:
            standing = federation.history().round(newest).proposed
            if standing is not None and standing.key in self.watcher.judged:
                self.world.travel(WINDOW_S + 1)


@contextmanager
def staged(keep: Keep, rounds: int) -> Iterator[Stage]:
    """Yield a federation that can play so many rounds."""
    with (
        tempfile.TemporaryDirectory(prefix="commonweight-bench-") as name,
        ExitStack() as stack,
        World(Path(name) / "world", rounds=rounds, challenge_seconds=WINDOW_S) as world,
    ):
        yield Stage(world, Path(name), keep, stack)


def measure(
    keep: Keep, rounds: int, every: int, report: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Return what lies on the disks after every so many rounds, and what the audit then says."""
    found = []
    with staged(keep, rounds) as stage:
        for number in range(1, rounds + 1):
            stage.play()
            if number % every == 0:
                failed = stage.audit()
                sizes = stage.sizes()
                unchecked = sum(each.unchecked for each in failed)
                assert unchecked == len(failed), failed
                found.append({"rounds": number, "unchecked": unchecked, "bytes": sizes})
                report(f"{keep}: {number} rounds: {sizes}, {unchecked} could not be checked")
    return found


def table(measured: dict[str, list[dict[str, Any]]]) -> str:
    """Return kilobytes by `keep` and round, without columns that stay empty."""
    every = [line["bytes"] for lines in measured.values() for line in lines]
    columns = [
        (role, part)
        for role, parts in every[0].items()
        for part in parts
        if any(each[role][part] for each in every)
    ]
    head = ["`keep`", "rounds", *(f"{role}: {part}" for role, part in columns)]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for keep, lines in measured.items():
        for line in lines:
            sizes = (f"{line['bytes'][role][part] / 1000:,.0f}" for role, part in columns)
            rows.append([keep, str(line["rounds"]), *sizes])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Measure, write the results and print the tables, in kilobytes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--keep", choices=get_args(Keep), nargs="+", default=get_args(Keep))
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    given = parser.parse_args()
    measured = {
        keep: measure(keep, given.rounds, given.every, lambda line: print(line, flush=True))
        for keep in given.keep
    }
    write_results(given.out, "disk", {"measured": measured})
    print(table(measured))


if __name__ == "__main__":
    main()
