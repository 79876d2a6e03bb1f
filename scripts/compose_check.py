"""Play docker-compose.yml for real: build, two rounds, an audit from outside, down, up, a third.

    python -m scripts.compose_check

With a Docker engine it needs nothing else. Elsewhere, two environment variables name what to use:

    COMPOSE   what takes the place of `docker compose`, e.g. podman-compose
    BUILD     what builds an image, called as `BUILD TAG FOLDER --target TARGET`
              (without it: COMPOSE build)

Whatever takes the place of `docker compose` gets the services of profile dev written out and is
told what to start first: older podman-compose knows neither profiles nor conditions. The network is
a project of its own at free ports, beside whatever else runs on this machine, and leaves nothing
behind but the images.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from chain.events import Finalized, Paid
from chain.federation import Federation, connect_federation
from chain.location import FederationLocation
from devnet import roles
from protocol.errors import CommonweightError, Unavailable
from protocol.types import Address, RoundId
from runtime.processes import free_port

T = TypeVar("T")

ROOT: Final = Path(__file__).parents[1]
PROFILE: Final = "dev"
PROJECT: Final = "commonweight-check"
UID: Final = 10001  # the user of the images
FEDERATION_FILE: Final = "/network/federation/federation.json"
SETUP: Final = "setup"
JOINER_DATA: Final = ROOT / "configs" / "flashcards" / "microbiology.jsonl"
LIMIT_SECONDS: Final = 15 * 60.0  # for the whole check
# Two halves of one word, so that an echo of the command does not contain the word itself.
_DONE: Final = "it-was-done"
_TELLING: Final = '"$@" && printf "it-was-%s" done'
_FIRST_SECONDS: Final = 300.0
_STOP_SECONDS: Final = 20
_POLL_SECONDS: Final = 2.0


class Failed(CommonweightError):
    """The network did not do what it should; the text says what was expected."""


class Compose:
    """A project. `first` is the service that prepares the others and ends, having said `done`."""

    def __init__(
        self, project: str, file: Path, first: str, done: str, environment: dict[str, str]
    ) -> None:
        self.services = load(file)["services"]
        command = shlex.split(os.environ.get("COMPOSE", "docker compose"))
        self._command = [*command, "-f", str(file), "-p", project]
        self._first, self._done = first, done
        self._environment = {**os.environ, **environment}

    def run(self, *arguments: str, check: bool = True) -> str:
        """Run a compose command and return its stdout; Failed when it fails."""
        done = subprocess.run(
            [*self._command, *arguments],
            capture_output=True,
            text=True,
            env=self._environment,
            check=False,
        )
        if check and done.returncode:
            words = " ".join(arguments)
            raise Failed(f"compose {words}: exit {done.returncode}\n{done.stderr[-3000:]}")
        return done.stdout

    def build(self) -> None:
        """Build the images of all services."""
        build = os.environ.get("BUILD")
        if build is None:
            self.run("build")
            return
        built = [service for service in self.services.values() if "build" in service]
        targets = {service["image"]: service["build"]["target"] for service in built}
        for image, target in targets.items():
            subprocess.run([*shlex.split(build), image, str(ROOT), "--target", target], check=True)

    def up(self) -> None:
        """Start every service, each once those it needs are ready."""
        # Older podman-compose knows no conditions: it would start everything at once.
        if "COMPOSE" in os.environ:
            self.run("up", "-d", "--no-build", self._first)
            deadline = time.monotonic() + _FIRST_SECONDS
            while self._done not in self.run("logs", self._first, check=False):
                if time.monotonic() > deadline:
                    raise Failed(f"{self._first} did not succeed\n{self.logs()}")
                time.sleep(_POLL_SECONDS)
        self.run("up", "-d", "--no-build")

    def down(self, *options: str) -> None:
        """Stop and remove the containers; the volumes stay unless `options` has --volumes."""
        self.run("down", "-t", str(_STOP_SECONDS), *options)

    def exec(self, service: str, *command: str) -> str:
        """Run a command inside a service's container and return its stdout; Failed when it fails.

        Some podman-compose hide the exit code, so that success is told by a last line. They print
        the command too, in which that line must not stand as it is.
        """
        output = self.run("exec", "-T", service, "sh", "-c", _TELLING, "sh", *command)
        found, done, _ = output.rpartition(_DONE)
        if not done:
            raise Failed(f"{service}: {' '.join(command)} failed: {output.strip()}")
        return found

    def logs(self, *services: str) -> str:
        """Return the end of these services' logs, or of all."""
        return "\n".join(
            f"--- {name}\n{self.run('logs', '--tail', '30', name, check=False)}"
            for name in services or self.services
        )


def load(file: Path) -> dict[str, Any]:
    """Return a compose file."""
    loaded: dict[str, Any] = yaml.safe_load(file.read_text())
    return loaded


def write_plain(name: str, folder: Path, network: str | None = None) -> Path:
    """Write a compose file of this repository with only the services of the profile; return it.

    With `network` its services join that network of another project.
    """
    whole = load(ROOT / name)
    every = whole["services"].items()
    services = {key: s for key, s in every if PROFILE in s.get("profiles", [PROFILE])}
    for key, service in services.items():
        needs = {n: how for n, how in service.get("depends_on", {}).items() if n in services}
        build = {**service["build"], "context": str(ROOT)}
        services[key] = {**service, "depends_on": needs, "build": build}
        services[key].pop("profiles", None)
    plain = {key: value for key, value in whole.items() if not key.startswith("x-")}
    if network is not None:
        plain["networks"] = {"default": {"external": True, "name": network}}
    file = folder / name
    file.write_text(yaml.safe_dump({**plain, "services": services}, sort_keys=False))
    return file


class Network(Compose):
    """docker-compose.yml, at free ports."""

    def __init__(self, folder: Path) -> None:
        self.ports = {name: free_port() for name in ("CHAIN_PORT", "IPFS_PORT", "METRICS_PORT")}
        name = "docker-compose.yml"
        file = write_plain(name, folder) if "COMPOSE" in os.environ else ROOT / name
        environment = {name: str(port) for name, port in self.ports.items()}
        environment["COMPOSE_PROFILES"] = PROFILE
        super().__init__(PROJECT, file, SETUP, f"({FEDERATION_FILE})", environment)

    def url(self, port: str) -> str:
        """Return the address of a published port."""
        return f"http://127.0.0.1:{self.ports[port]}"


class Joiner(Compose):
    """compose.participant.yml, for a fourth participant with a wallet and data in `folder`."""

    def __init__(self, folder: Path, address: str) -> None:
        file = write_plain("compose.participant.yml", folder, f"{PROJECT}_federation")
        # The container runs as the owner of the wallet, which nobody else can read.
        owner = (folder / "wallet.json").stat()
        environment = {
            "KEYSTORE": str(folder / "wallet.json"),
            "PASSWORD_FILE": str(folder / "wallet.password"),
            "DATA_FOLDER": str(folder / "data"),
            "RPC_URL": "http://chain:8545",
            "IPFS_URL": "http://ipfs:5001",
            "FEDERATION": address,
            "MODEL": "tiny-llama",
            "MEMORY": "2g",
            "PUID": str(owner.st_uid),
            "PGID": str(owner.st_gid),
        }
        super().__init__(f"{PROJECT}-joiner", file, "init", "next ", environment)


class Check:
    """The steps of the check, each with the time it took."""

    def __init__(self, compose: Network, folder: Path) -> None:
        self.compose = compose
        self.folder = folder
        self.started = time.monotonic()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Print the name of a step, and how long it took."""
        began = time.monotonic()
        print(f"{name} ...", flush=True)
        yield
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)

    def run(self) -> None:
        """Run all steps; Failed, with what was expected, when one does not hold."""
        with self.step("build the images"):
            self.compose.build()
        with self.step("up, and two rounds"):
            self.compose.up()
            location = self.wait("the federation", self.find_location)
            before = self.wait("two rounds", lambda: self.models(location, 2))
        with self.step("health, users, read-only roots"):
            self.check_services()
        with self.step("audit from outside"):
            self.audit(location)
        with self.step("down, up, and the next round"):
            self.compose.down()
            self.compose.up()
            # One more round than before: it needs the chain's, the store's and the roles' state.
            after = self.wait("the next round", lambda: self.models(location, len(before) + 1))
        if after[: len(before)] != before:
            raise Failed("the rounds from before `down` are not there any more")
        with self.step("a stranger joins and is paid"):
            self.join(location)
        with self.step("audit from outside"):
            self.audit(location)
        print(f"passed: {len(after)} rounds, {time.monotonic() - self.started:.0f} s in all")

    def find_location(self) -> FederationLocation | None:
        """Return where the federation is, as seen from this machine; None while there is none."""
        try:
            told = self.compose.exec(
                "aggregator", "sh", "-c", f"tr -d '\\n' < {FEDERATION_FILE}; echo"
            )
        except Failed:
            return None  # not up yet
        # podman-compose says on stdout what it does.
        found = [line for line in told.splitlines() if line.startswith("{")]
        if not found:
            return None
        urls = {
            "rpc_url": self.compose.url("CHAIN_PORT"),
            "ipfs_url": self.compose.url("IPFS_PORT"),
        }
        return FederationLocation.model_validate({**json.loads(found[-1]), **urls})

    def models(self, location: FederationLocation, wanted: int) -> list[str] | None:
        """Return the finalized rounds' model roots once there are `wanted`, else None."""
        try:
            federation = connect_federation(location)
            last = federation.last_finalized_round()
            return model_roots(federation, last) if last >= wanted else None
        except Unavailable:
            return None  # not up yet

    def check_services(self) -> None:
        """Failed unless every running service is healthy, not root, and cannot write its image."""
        every = self.compose.services.items()
        active = {name: s for name, s in every if PROFILE in s.get("profiles", [PROFILE])}
        running = [name for name in active if name != SETUP]
        for name in running:
            self.compose.exec(name, *active[name]["healthcheck"]["test"][1:])
            self.compose.exec(name, "sh", "-c", "test $(id -u) != 0")
            self.compose.exec(name, "sh", "-c", "! touch /opt/commonweight/probe")
            self.expect_failure(name)
        print(f"  {len(running)} services: {', '.join(running)}")

    def expect_failure(self, name: str) -> None:
        """Fail when a command that fails in the container seems to succeed: nothing would count."""
        try:
            self.compose.exec(name, "sh", "-c", "exit 3")
        except Failed:
            return
        raise Failed(f"compose exec in {name} hides that a command failed")

    def join(self, location: FederationLocation) -> None:
        """Let compose.participant.yml join; raise Failed unless it is paid for a round."""
        wallet = roles.dev_wallet(self.folder)
        (self.folder / "data").mkdir()
        shutil.copy(JOINER_DATA, self.folder / "data" / "data.jsonl")
        if os.geteuid() == 0:  # root's files are for root: nobody in a container is
            for path in (self.folder / "wallet.json", self.folder / "wallet.password"):
                os.chown(path, UID, UID)
        sponsor = roles.connect_sponsor(location.rpc_url, location.chain_id)
        # The sponsor of a devnet gives what a participant would have bought: ether and tokens.
        federation = connect_federation(location)
        stake = federation.terms().money.participant_stake
        roles.give(sponsor, connect_federation(location, sponsor.wallet), wallet.address, stake)
        joiner = Joiner(self.folder, location.address)
        try:
            joiner.up()
            self.wait("its pay", lambda: paid(federation, wallet.address), joiner)
        finally:
            joiner.down("--volumes")

    def audit(self, location: FederationLocation) -> None:
        """Audit from this machine, in a process given three addresses; Failed if it fails."""
        urls = ["--rpc", location.rpc_url, "--ipfs", location.ipfs_url]
        command = [sys.executable, "-m", "commonweight", "audit", "run", location.address, *urls]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        print("  " + (done.stdout.splitlines() or ["no output"])[-1])
        if done.returncode:
            raise Failed(f"the audit failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")

    def wait(self, what: str, probe: Callable[[], T | None], waiting: Compose | None = None) -> T:
        """Return what `probe` finds; Failed when the time for the whole check is over."""
        while (found := probe()) is None:
            if time.monotonic() - self.started > LIMIT_SECONDS:
                logs = (waiting or self.compose).logs()
                raise Failed(f"waited too long for {what}\n{logs}")
            time.sleep(_POLL_SECONDS)
        return found


def model_roots(federation: Federation, last: RoundId) -> list[str]:
    """Return the model roots of the finalized rounds up to `last`."""
    events = [e for e in federation.read_events() if isinstance(e, Finalized)]
    return [event.root.hex() for event in events if event.round <= last]


def paid(federation: Federation, address: Address) -> bool | None:
    """Return True once `address` was paid for a round, else None."""
    events = federation.read_events()
    return True if any(isinstance(e, Paid) and e.participant == address for e in events) else None


def main() -> int:
    """Run the check and remove its containers and volumes; return the exit code."""
    if "COMPOSE" not in os.environ and shutil.which("docker") is None:
        print("no Docker engine: set COMPOSE (and BUILD) as docs/containers.md says")
        return 2
    # Also after a failure the containers and volumes go, or the next check would find them.
    with tempfile.TemporaryDirectory(prefix=PROJECT) as folder:
        compose = Network(Path(folder))
        try:
            Check(compose, Path(folder)).run()
        except (CommonweightError, subprocess.CalledProcessError) as error:
            print(f"FAILED: {error}")
            return 1
        finally:
            compose.down("--volumes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
