"""The demo: a whole federation on one machine, from an empty chain to an audited payout.

A run is a folder. If it was killed at any point, the next `commonweight demo` with the same
configuration and seed continues it from where the chain stands.
"""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chain.location import FederationLocation
from commonweight.demo import results
from commonweight.demo.answers import ask
from commonweight.demo.shards import prepare_data
from devnet import daemons, roles
from devnet.accounts import CHAIN_ID
from devnet.factory import factory_in
from ethereum.wallet import Wallet
from protocol.canonical import canonical_json, sha256
from protocol.errors import CommonweightError, Misconfigured, Unavailable
from runtime import events
from runtime.events import Event, Report
from runtime.flower import Simulation
from runtime.home import cache_folder, home, newest_run, next_run
from runtime.progress import Line, read_progress, reporter
from runtime.settings import write_location
from sponsor import found
from sponsor.config import Config
from storage.files import read_json, write_json
from storage.ipfs import ContentStore

DEMO: Final = "demo"
_READY: Final = "ready"
_POLL_SECONDS: Final = 0.2
_FLOWER_STARTS: Final = 3

OnLine = Callable[[Line], None]


@dataclass(frozen=True)
class Options:
    """What a user may choose beside the configuration."""

    seed: int = 0
    keep: bool = False
    chain_port: int = 0
    ipfs_port: int = 0
    ipfs_url: str | None = None
    rpc_url: str | None = None


def run_demo(config: Config, options: Options, on_line: OnLine) -> dict[str, Any]:
    """Play the whole demo and return its result (see `commonweight.demo.results`).

    `on_line` is called with every line of progress. Raises CommonweightError when a role fails.
    """
    if not config.data.names:
        raise Misconfigured("a demo needs [data.participants]: a file of examples for each")
    _check_endpoints(options)
    run, is_new = _choose_run(config, options)
    try:
        config = prepare_data(config, run / "data", options.seed)
    except CommonweightError:
        if is_new:
            shutil.rmtree(run)  # nothing was started that the next attempt could continue
        raise
    progress = run / "progress" / f"{time.time_ns()}.jsonl"
    follower = Follower(progress, on_line)
    follower.follow()  # earlier attempts, so that the display shows the whole run
    write = reporter(progress, DEMO)

    def report(event: Event) -> None:
        write(event)
        on_line(Line.now(DEMO, event))

    report(events.Started(run=run.name) if is_new else events.Resumed(run=run.name))
    # The model is prepared while devnet and Flower start: each takes seconds to import its
    # libraries.
    with (
        _devnet(options) as wait_for_devnet,
        Simulation(run / "flower", config.simulation.threads) as simulation,
        ThreadPoolExecutor(1) as pool,
    ):
        built = pool.submit(_build, config, options.seed, run, report)
        # Left by an earlier attempt, it would let the aggregator start before all is deployed.
        (run / _READY).unlink(missing_ok=True)
        aggregator = roles.add_aggregator(
            run / "aggregator",
            run / "federation.json",
            progress,
            run / _READY,
            config,
            cache_folder(),
        )
        participants, processes = len(config.data.names), config.simulation.processes
        flower = _FlowerRun(
            lambda: simulation.run(run, participants=participants, processes=processes),
            run / "flower" / "run.log",
        )
        endpoints = wait_for_devnet()
        flower.look_after(built.done)
        location = _launch(config, run, progress, built.result(), aggregator, endpoints, report)
        flower.look_after(follower.follow)
        simulation.terminate()
        return _conclude(location, config, run, options.seed, report)


def _check_endpoints(options: Options) -> None:
    """Raise Unavailable or Misconfigured when an endpoint that the user gave is of no use."""
    # Before anything is started: the base model alone takes a minute to prepare.
    if options.rpc_url:
        roles.connect_sponsor(options.rpc_url, CHAIN_ID)
    if options.ipfs_url:
        ContentStore(options.ipfs_url).version()


def _build(config: Config, seed: int, run: Path, report: Report) -> found.Plan | None:
    """Return a new federation's plan; None when the run has a federation."""
    if (run / "federation.json").exists():
        return None
    report(events.PreparingModel(source=config.model.source))
    return found.plan(config, seed, cache_folder(), run / "model")


def _conclude(
    location: FederationLocation, config: Config, run: Path, seed: int, report: Report
) -> dict[str, Any]:
    """Audit the run, write its result and the plot, and return the result."""
    report(events.Auditing())
    # Started first: it takes seconds of its own, in which the result is collected.
    scored = config.rules.scoring == "heldOut"
    audit = results.start_audit(location, config.model.source if scored else None)
    result = results.collect(location, run, seed)
    models = [row["model_cid"] for row in result["rounds"]]
    result["answers"] = ask(location, config, models, report)
    results.plot(result, run / "loss.png")
    result["audit"] = results.finish_audit(audit, run)
    report(events.Audited(**result["audit"]))
    # Last: a run without a result is one that the next attempt continues.
    write_json(run / "result.json", result)
    return {**result, "folder": str(run)}


@contextmanager
def _devnet(options: Options) -> Iterator[Callable[[], tuple[str, str]]]:
    """Start a devnet unless the user gave endpoints; yield a function that waits for its URLs.

    The function returns the (RPC, IPFS) URLs.
    """
    if options.rpc_url and options.ipfs_url:
        given = options.rpc_url, options.ipfs_url
        yield lambda: given
        return
    folder = home() / "devnet"
    wanted = daemons.Wanted(chain_port=options.chain_port, ipfs_port=options.ipfs_port)
    net = daemons.start(folder, wanted, outlive=options.keep)

    def wait() -> tuple[str, str]:
        daemons.wait(net, folder)
        return options.rpc_url or net.rpc_url, options.ipfs_url or net.ipfs_url

    try:
        yield wait
    finally:
        if not options.keep:
            daemons.down(folder)


def _choose_run(config: Config, options: Options) -> tuple[Path, bool]:
    """Return the run's folder, and whether it is new."""
    # Another configuration or seed would give another spec, so its run cannot be continued.
    identity = sha256(canonical_json([config.model_dump(mode="json"), options.seed])).hex()
    newest = newest_run()
    if newest is not None and (newest / "run.json").exists():
        known = read_json(newest / "run.json")
        if known["identity"] == identity and not (newest / "result.json").exists():
            return newest, False
    run = next_run()
    write_json(run / "run.json", {"identity": identity, "seed": options.seed})
    return run, True


def _launch(
    config: Config,
    run: Path,
    progress: Path,
    built: found.Plan | None,
    aggregator: Wallet,
    endpoints: tuple[str, str],
    report: Report,
) -> FederationLocation:
    """Deploy a run's federation with its roles, or what is missing; `built` is for a new one."""
    rpc_url, ipfs_url = endpoints
    store = ContentStore(ipfs_url)
    file = run / "federation.json"
    sponsor = roles.connect_sponsor(rpc_url, CHAIN_ID)
    if built is not None:
        spec = built.spec
        if built.trial is not None:
            report(
                events.TriedOut(
                    grid=built.trial.grid_bits,
                    min_norm=built.trial.min_norm,
                    loss_before=built.trial.loss_before,
                    loss_after=built.trial.loss_after,
                    relative_error=built.trial.relative_error,
                )
            )
        size = spec.total_bytes(spec.update_kind)
        report(events.DeployingContract(layers=len(spec.layers), bytes=size))
        # Kept from run to run: only the federation is each run's own.
        factory = factory_in(home() / "devnet", sponsor)
        means = found.Means(sponsor, store, rpc_url, factory)
        write_location(file, found.deploy(built, means, [aggregator.address]))
    location = FederationLocation.load(file).model_copy(
        # A devnet may have other ports after a restart.
        update={"rpc_url": rpc_url, "ipfs_url": store.api_url}
    )
    write_location(file, location)
    roles.bond_aggregator(sponsor, location, aggregator)
    for index, (name, data) in enumerate(config.data.participants.items()):
        folder = run / "participants" / str(index)
        wallet = roles.add_participant(folder, name, data, config, cache_folder(), file, progress)
        roles.join_participant(sponsor, location, wallet)
        report(events.Joined(participant=wallet.address, name=name))
    # Last: the aggregator waits for this file, and then finds its bond and every participant.
    (run / _READY).touch()
    return location


class _FlowerRun:
    """Flower's run of the app, started again when it ends before the roles are done.

    Ray allows itself 30 seconds to start, which a busy machine exceeds. Nothing is lost by another
    start: the roles read from the chain what is left to do.
    """

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]], log: Path) -> None:
        self._start = start
        self._log = log
        self._starts_left = _FLOWER_STARTS - 1
        self._process = start()

    def look_after(self, is_done: Callable[[], bool]) -> None:
        """Wait until `is_done`; raise Unavailable when the run has ended too often by then."""
        while True:
            # Asked first: what `is_done` then reads may say that all went well.
            has_ended = self._process.poll() is not None
            if is_done():
                return
            if has_ended:
                if not self._starts_left:
                    raise Unavailable(
                        f"Flower's run ended early: see {self._log}", service="flower"
                    )
                self._starts_left -= 1
                self._process = self._start()
            time.sleep(_POLL_SECONDS)


class Follower:
    """Reads lines of progress as they are written, until the aggregator has finished.

    Each attempt at a run has its own file. Flower's processes of a killed attempt may run on, and
    play its rounds while this one waits for their locks: what they write is shown as well, but what
    fails there is no failure of this attempt.
    """

    def __init__(self, path: Path, on_line: OnLine) -> None:
        self._path = path
        self._on_line = on_line
        self._offsets: dict[Path, int] = {}

    def follow(self) -> bool:
        """Pass on new lines; return whether the aggregator finished. Raises when a role failed."""
        lines = []
        for path in sorted(self._path.parent.glob("*.jsonl")):
            is_own = path == self._path
            for offset, line in read_progress(path, self._offsets.get(path, 0)):
                self._offsets[path] = offset
                if not is_own or line.who != DEMO:  # its own lines were shown already
                    self._on_line(line)
                if is_own:
                    lines.append(line)
        for line in lines:  # after all were shown, since the lines after a failure may explain it
            if isinstance(line.event, events.Failed):
                raise CommonweightError(f"{line.who} failed: {line.event.reason}")
            if isinstance(line.event, events.Finished) and line.who == "aggregator":
                return True
        return False
