"""Plays docker-compose.yml for real: build, two rounds, an audit from outside, down, up, a third.

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

from chain.events import Finalized
from chain.federation import Federation
from chain.location import FederationLocation
from chain.rounds import connect_federation
from commonweight.processes import free_port
from protocol.errors import CommonweightError, Unavailable
from protocol.quantities import RoundId

T = TypeVar("T")

ROOT: Final = Path(__file__).parents[1]
PROFILE: Final = "dev"
PROJECT: Final = "commonweight-check"
FEDERATION_FILE: Final = "/network/federation/federation.json"
ONCE: Final = "setup"  # the service that prepares the others and ends
DONE: Final = f"({FEDERATION_FILE})"  # the end of its last line
LIMIT_SECONDS: Final = 15 * 60.0
_SETUP_SECONDS: Final = 300.0
_STOP_SECONDS: Final = 20
_POLL_SECONDS: Final = 2.0


class Failed(CommonweightError):
    """The network did not do what it should."""


class Compose:
    """The network of docker-compose.yml in a project of its own."""

    def __init__(self, folder: Path) -> None:
        self.services = active_services(PROFILE)
        self.ports = {name: free_port() for name in ("CHAIN_PORT", "IPFS_PORT", "METRICS_PORT")}
        given = os.environ.get("COMPOSE")
        file = ROOT / "docker-compose.yml" if given is None else self._write(folder)
        command = shlex.split(given or "docker compose")
        self._knows_conditions = given is None
        self._command = [*command, "-f", str(file), "-p", PROJECT]
        self._environment = {
            **os.environ,
            **{name: str(port) for name, port in self.ports.items()},
            "COMPOSE_PROFILES": PROFILE,
        }

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
        targets = {s["image"]: s["build"]["target"] for s in self.services.values()}
        for image, target in targets.items():
            subprocess.run([*shlex.split(build), image, str(ROOT), "--target", target], check=True)

    def up(self) -> None:
        """Start every service, each once those it needs are ready."""
        if not self._knows_conditions:
            self.run("up", "-d", "--no-build", ONCE)
            deadline = time.monotonic() + _SETUP_SECONDS
            while DONE not in self.run("logs", ONCE, check=False):
                if time.monotonic() > deadline:
                    raise Failed(f"{ONCE} did not end\n{self.logs(ONCE)}")
                time.sleep(_POLL_SECONDS)
        self.run("up", "-d", "--no-build")

    def down(self, *options: str) -> None:
        """Stop and remove the containers; the volumes stay unless `options` has --volumes."""
        self.run("down", "-t", str(_STOP_SECONDS), *options)

    def exec(self, service: str, *command: str) -> str:
        """Run a command inside a service's container and return its stdout."""
        return self.run("exec", "-T", service, *command)

    def logs(self, *services: str) -> str:
        """Return the end of these services' logs, or of all."""
        return "\n".join(
            f"--- {name}\n{self.run('logs', '--tail', '30', name, check=False)}"
            for name in services or self.services
        )

    def _write(self, folder: Path) -> Path:
        """Write the file with the services of the profile alone, and no mention of others."""
        whole = load_compose()
        services = {}
        for name, service in self.services.items():
            needs = service.get("depends_on", {})
            kept = {key: value for key, value in service.items() if key != "profiles"}
            kept["depends_on"] = {other: needs[other] for other in needs if other in self.services}
            kept["build"] = {**service["build"], "context": str(ROOT)}
            services[name] = kept
        file = folder / "docker-compose.yml"
        whole = {key: value for key, value in whole.items() if not key.startswith("x-")}
        file.write_text(yaml.safe_dump({**whole, "services": services}, sort_keys=False))
        return file


def load_compose() -> dict[str, Any]:
    """Return docker-compose.yml."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def active_services(profile: str) -> dict[str, Any]:
    """Return the services that a profile brings up."""
    services = load_compose()["services"].items()
    return {name: s for name, s in services if profile in s.get("profiles", [profile])}


class Check:
    """The steps, each with the time it took."""

    def __init__(self, compose: Compose) -> None:
        self.compose = compose
        self.started = time.monotonic()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Say what is done, and how long it took."""
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
            after = self.wait("the next round", lambda: self.models(location, len(before) + 1))
        if after[: len(before)] != before:
            raise Failed("the rounds from before `down` are not there any more")
        with self.step("audit from outside"):
            self.audit(location)
        print(f"passed: {len(after)} rounds, {time.monotonic() - self.started:.0f} s in all")

    def find_location(self) -> FederationLocation | None:
        """Return where the federation is, as seen from this machine; None while there is none."""
        try:
            told = self.compose.exec("aggregator", "sh", "-c", f"tr -d '\\n' < {FEDERATION_FILE}")
        except Failed:
            return None  # not up yet
        # podman-compose says on stdout what it does.
        found = [line for line in told.splitlines() if line.startswith("{")]
        if not found:
            return None
        urls = {"rpc_url": self.url("CHAIN_PORT"), "ipfs_url": self.url("IPFS_PORT")}
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
        for name, service in self.compose.services.items():
            if name == ONCE:
                continue  # it has done its work and ended
            self.compose.exec(name, *service["healthcheck"]["test"][1:])
            self.compose.exec(name, "sh", "-c", "test $(id -u) != 0")
            self.compose.exec(name, "sh", "-c", "! touch /opt/commonweight/probe")

    def audit(self, location: FederationLocation) -> None:
        """Audit from this machine, in a process that knows three addresses; Failed if it fails."""
        urls = ["--rpc", location.rpc_url, "--ipfs", location.ipfs_url]
        command = [sys.executable, "-m", "commonweight", "audit", "run", location.address, *urls]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        print("  " + (done.stdout.splitlines() or ["no output"])[-1])
        if done.returncode:
            raise Failed(f"the audit failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")

    def wait(self, what: str, probe: Callable[[], T | None]) -> T:
        """Return what `probe` finds; Failed when the time for the whole check is over."""
        while (found := probe()) is None:
            if time.monotonic() - self.started > LIMIT_SECONDS:
                raise Failed(f"waited too long for {what}\n{self.compose.logs()}")
            time.sleep(_POLL_SECONDS)
        return found

    def url(self, port: str) -> str:
        """Return the address of a published port."""
        return f"http://127.0.0.1:{self.compose.ports[port]}"


def model_roots(federation: Federation, last: RoundId) -> list[str]:
    """Return the model roots of the finalized rounds up to `last`."""
    events = [e for e in federation.read_events() if isinstance(e, Finalized)]
    return [event.root.hex() for event in events if event.round <= last]


def main() -> int:
    """Run the check and remove its containers and volumes; return the exit code."""
    if "COMPOSE" not in os.environ and shutil.which("docker") is None:
        print("no Docker engine: set COMPOSE (and BUILD) as docs/containers.md says")
        return 2
    with tempfile.TemporaryDirectory(prefix=PROJECT) as folder:
        compose = Compose(Path(folder))
        try:
            Check(compose).run()
        except (CommonweightError, subprocess.CalledProcessError) as error:
            print(f"FAILED: {error}")
            return 1
        finally:
            compose.down("--volumes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
