"""The demo: a whole federation on one machine, from an empty chain to an audited payout.

A run is a folder. Killed at any point, the next `commonweight demo` with the same configuration and
seed goes on with the same run, from where the chain stands.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from chain.location import FederationLocation
from chain.rounds import connect_federation
from commonweight import devnet, launch, results
from commonweight.config import Config
from commonweight.flower import simulation
from commonweight.home import cache_folder, home, newest_run, next_run
from protocol.canonical import canonical_json, sha256
from protocol.errors import CommonweightError, Unavailable
from storage.files import read_json, write_json
from storage.ipfs import ContentStore
from storage.progress import read_progress, reporter

_POLL_SECONDS: Final = 0.2

OnLine = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Options:
    """What a user may choose besides the configuration."""

    seed: int = 0
    keep: bool = False
    chain_port: int = 0
    ipfs_port: int = 0
    ipfs_url: str | None = None
    rpc_url: str | None = None


def run_demo(config: Config, options: Options, on_line: OnLine) -> dict[str, Any]:
    """Play the whole demo and return its result (see `commonweight.results`).

    `on_line` hears of every line of progress. Raises CommonweightError when a role fails.
    """
    run, is_new = _choose_run(config, options)
    report = reporter(run / "progress.jsonl", "demo")
    report("started" if is_new else "resumed", run=run.name)
    with _endpoints(options) as (rpc_url, ipfs_url):
        location = _prepare(config, options, run, rpc_url, ipfs_url, report)
        _play(config, run, on_line)
        result = results.collect(location, run, options.seed)
        report("auditing")
        result["audit"] = results.audit(location, run)
        write_json(run / "result.json", result)
        results.plot(result, run / "loss.png")
        return {**result, "folder": str(run)}


@contextmanager
def _endpoints(options: Options) -> Iterator[tuple[str, str]]:
    """Yield (RPC URL, IPFS URL): the user's own, or the devnet's for what is not given."""
    if options.rpc_url and options.ipfs_url:
        yield options.rpc_url, options.ipfs_url
        return
    folder = home() / "devnet"
    ports = {"chain_port": options.chain_port, "ipfs_port": options.ipfs_port}
    net = devnet.up(folder, **ports, outlive=options.keep)
    try:
        yield options.rpc_url or net.rpc_url, options.ipfs_url or net.ipfs_url
    finally:
        if not options.keep:
            devnet.down(folder)


def _choose_run(config: Config, options: Options) -> tuple[Path, bool]:
    """Return the run to play, and whether it is new."""
    identity = sha256(canonical_json([config.model_dump(mode="json"), options.seed])).hex()
    newest = newest_run()
    if newest is not None and (newest / "run.json").exists():
        known = read_json(newest / "run.json")
        if known["identity"] == identity and not (newest / "result.json").exists():
            return newest, False
    run = next_run()
    write_json(run / "run.json", {"identity": identity, "seed": options.seed})
    return run, True


def _prepare(
    config: Config,
    options: Options,
    run: Path,
    rpc_url: str,
    ipfs_url: str,
    report: Callable[..., None],
) -> FederationLocation:
    """Launch the federation of a run, or what is missing of it."""
    store = ContentStore(ipfs_url)
    file, progress = run / "federation.json", run / "progress.jsonl"
    sponsor = launch.connect_sponsor(rpc_url, devnet.CHAIN_ID)
    aggregator = launch.add_aggregator(run / "aggregator", config, file, progress)
    if not file.exists():
        report("preparing the model", source=config.model.source)
        spec, model = launch.build_spec(config, options.seed, cache_folder(), run / "model")
        report("deploying the contract", layers=len(spec.layers), bytes=spec.total_bytes)
        location = launch.deploy(config, spec, model, sponsor, [aggregator.address], store, rpc_url)
        launch.write_location(file, location)
    location = FederationLocation.load(file).model_copy(
        # A devnet may come back at other ports.
        update={"rpc_url": rpc_url, "ipfs_url": store.api_url}
    )
    launch.write_location(file, location)
    launch.bond_aggregator(sponsor, location, aggregator)
    for index, (name, data) in enumerate(config.data.participants.items()):
        folder = run / "participants" / str(index)
        wallet = launch.add_participant(folder, name, data, config, cache_folder(), file, progress)
        launch.join_participant(sponsor, location, wallet)
        report("joined", participant=wallet.address, name=name)
    return location


def _play(config: Config, run: Path, on_line: OnLine) -> None:
    """Run Flower until the aggregator has finished, passing its lines of progress on."""
    federation = connect_federation(FederationLocation.load(run / "federation.json"))
    follower = _Follower(run / "progress.jsonl", on_line)
    if federation.is_over() and follower.has_finished():
        return
    follower.skip_past_endings()
    with simulation(
        run,
        participants=len(config.data.participants),
        processes=config.simulation.processes,
        threads=config.simulation.threads,
    ) as flwr:
        while not follower.follow():
            if flwr.poll() is not None and not follower.follow():
                raise Unavailable(f"Flower's run ended early: see {run / 'flower' / 'run.log'}")
            time.sleep(_POLL_SECONDS)


class _Follower:
    """Reads the lines of progress as they come; knows when the aggregator has ended."""

    def __init__(self, path: Path, on_line: OnLine) -> None:
        self._path = path
        self._on_line = on_line
        self._offset = 0

    def has_finished(self) -> bool:
        """Pass on all lines so far; whether one says that the aggregator finished."""
        finished = False
        for line in self._lines():
            finished = finished or _is(line, "finished")
        return finished

    def skip_past_endings(self) -> None:
        """Pass on all lines so far, of an earlier attempt too, without looking for an end."""
        for _ in self._lines():
            pass

    def follow(self) -> bool:
        """Pass on what is new; whether the aggregator finished. Raises when it failed."""
        for line in self._lines():
            if line["phase"] == "failed":
                raise CommonweightError(f"{line['who']} failed: {line['reason']}")
            if _is(line, "finished"):
                return True
        return False

    def _lines(self) -> list[dict[str, Any]]:
        lines = []
        for offset, raw in read_progress(self._path, self._offset):
            self._offset = offset
            line: dict[str, Any] = results.parse_line(raw)
            self._on_line(line)
            lines.append(line)
        return lines


def _is(line: dict[str, Any], phase: str) -> bool:
    return line.get("who") == "aggregator" and line.get("phase") == phase
