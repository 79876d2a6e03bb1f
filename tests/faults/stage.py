"""A federation of processes under a schedule, from the first round to the end.

    with Stage(schedule, folder) as stage:
        stage.play()            # until the federation is over, or Stuck is raised
    check(stage)                # tests/faults/checks.py

Chain, IPFS daemon and every role are processes of their own; a supervisor starts again whichever
ends before the federation does. A role's lines lead through the stage (tests/faults/lines.py) and,
where this machine lets us, out of a network namespace of its own (tests/faults/hosts.py).
"""

import json
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from chain.federation import Federation
from chain.location import FederationLocation
from contracts.enums import AggregatorState
from ethereum.rpc import connect
from protocol.errors import CommonweightError
from protocol.manifest import Manifest
from protocol.types import RoundId, parse_digest
from runtime.processes import free_port
from runtime.settings import write_location
from storage.ipfs import ContentStore
from tests.faults import disk, roles
from tests.faults.clock import Clock
from tests.faults.founding import WALLETS, found, keystores
from tests.faults.hosts import Host, can_make_hosts
from tests.faults.lines import IpfsLine, Line, RpcLine
from tests.faults.processes import Processes
from tests.faults.roles import Noun
from tests.faults.schedule import CHAIN, IPFS, LEAD, STANDBY, Schedule
from tests.faults.strikes import Strikes

T = TypeVar("T")

_LOOK_S: Final = 0.15
_MOST_LOOKS: Final = 1200  # looks, not seconds: a machine that is busy or suspended is no fault
_SUPERVISED_S: Final = 0.3  # until who ended is started again
_MOST_RESTARTS: Final = 60
_SERVICES: Final = (IPFS, CHAIN)


class Stuck(AssertionError):
    """The federation did not come to its end in time."""


class Stage:
    """One schedule at play; see the module."""

    def __init__(self, schedule: Schedule, folder: Path) -> None:
        self.schedule = schedule
        self.folder = folder
        self.trace: list[str] = []
        self.rpc_lines: dict[str, RpcLine] = {}
        self.hosts: dict[str, Host] = {}
        self.withheld: list[bytes] = []  # blocks that were public once
        self.refusing: set[tuple[int, str]] = set()  # who opens nothing for the set of a round
        self.processes = Processes()
        self._ipfs_lines: dict[str, IpfsLine] = {}
        self._restarts = 0
        self._started = time.monotonic()
        self._cleanup = ExitStack()

    # ------------------------------------------------------------------- setup

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._set_up(stack)
            self._cleanup = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cleanup.close()

    def _set_up(self, stack: ExitStack) -> None:
        self._mount_disks(stack)
        stack.callback(self.processes.close)
        self._start_services()
        self.federation = Federation(
            self.w3, self.founded.address, deployment_block=self.founded.deployment_block
        )
        self.clock = Clock(self.federation, self.schedule, self.tell)
        self.strikes = Strikes(self)
        stack.callback(self.strikes.close)
        hooks = stack.enter_context(self._listening())
        for number, name in enumerate(self.schedule.roles):
            self._settle(number, name, hooks, stack)

    def _mount_disks(self, stack: ExitStack) -> None:
        for target in {fault.target for fault in self.schedule.faults if fault.kind == "full"}:
            if disk.mount(self.folder / target):
                stack.callback(disk.unmount, self.folder / target)

    def _start_services(self) -> None:
        self.founded = found(self.schedule, self.folder)
        ports = {CHAIN: free_port(), IPFS: free_port()}
        self.ipfs_url, self.rpc_url = (f"http://127.0.0.1:{ports[name]}" for name in (IPFS, CHAIN))
        self.processes.define(IPFS, roles.run_ipfs, self.founded.repo, ports[IPFS])
        self.processes.define(CHAIN, roles.run_chain, self.founded.chain, ports[CHAIN])
        for service in _SERVICES:
            self.processes.start(service)
        self.w3 = _insist(lambda: connect(self.rpc_url, timeout_s=10))
        self.store = ContentStore(self.ipfs_url, timeout_s=10)
        _insist(self.store.id)

    @contextmanager
    def _listening(self) -> Iterator[str]:
        """Hear what roles report, at the path that is yielded."""
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
            path = f"{folder}/hooks"
            listener.bind(path)
            listener.listen(64)
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
            yield path

    def _settle(self, number: int, name: str, hooks: str, stack: ExitStack) -> None:
        """Give a role its host, lines, files and work."""
        address = {"rpc": "127.0.0.1", "ipfs": "127.0.0.1"}
        namespace = None
        if can_make_hosts():
            host = self.hosts[name] = stack.enter_context(Host(number, ("rpc", "ipfs")))
            address = {service: host.address(service) for service in address}
            namespace = host.namespace
        rpc = RpcLine(self.rpc_url, address["rpc"], lambda *at: self.strikes.reached(name, *at))
        ipfs = IpfsLine(self.ipfs_url, address["ipfs"])
        self.rpc_lines[name] = stack.enter_context(rpc)
        self._ipfs_lines[name] = stack.enter_context(ipfs)
        noun: Noun = "aggregator" if name in (LEAD, STANDBY) else "participant"
        job = roles.Job(
            name=name,
            noun=noun,
            config=self._write_settings(name, noun, rpc.url, ipfs.url),
            log=self.folder / f"{name}.log",
            hooks=hooks,
            namespace=namespace,
            examples=10 * (1 + number),
        )
        self.processes.define(name, roles.run_role, job)

    def _write_settings(self, name: str, noun: Noun, rpc_url: str, ipfs_url: str) -> Path:
        location = FederationLocation(
            chain_id=self.w3.eth.chain_id,
            address=self.founded.address,
            deployment_block=self.founded.deployment_block,
            rpc_url=rpc_url,
            ipfs_url=ipfs_url,
        )
        write_location(self.folder / f"{name}.federation.json", location)
        for file in (f"{name}.json", "password"):
            shutil.copy(keystores() / file, self.folder)
        settings = {
            "federation": f"{name}.federation.json",
            "keystore": f"{name}.json",
            "password_file": "password",
            "state": f"{name}/state",
            "poll_seconds": _LOOK_S,
            "confirmations": self.schedule.confirmations,
        }
        if noun == "participant":
            settings |= {"name": name, "data": "none", "model": "none", "rejoin": True}
        else:
            settings |= {"min_participants": len(self.schedule.names)}
        path = self.folder / f"{name}.toml"
        path.write_text(
            "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
        )
        return path

    # ------------------------------------------------------------------- lines

    def line(self, name: str, service: str) -> Line:
        """Return a role's line to "rpc" or "ipfs"."""
        return self.rpc_lines[name] if service == "rpc" else self._ipfs_lines[name].line

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._hear, args=(connection,), daemon=True).start()

    def _hear(self, connection: socket.socket) -> None:
        """Take down what one role reports, and let it go on unless it was struck down."""
        with connection, suppress(OSError):
            lines = connection.makefile("rw")
            for line in lines:
                told = json.loads(line)
                who, phase = told.pop("who"), told.pop("phase")
                if phase == "keeping secrets" and "another set" in told["reason"]:
                    self.refusing.add((told["round"], who))
                self.tell(who, " ".join([phase, *(f"{k}={v}" for k, v in told.items())]))
                if not self.strikes.reached(who, phase, told.get("round")):
                    return
                lines.write("\n")
                lines.flush()

    def tell(self, who: str, what: str) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{time.monotonic() - self._started:7.2f}  {who:<10}  {what}")

    def withhold(self, name: str, round_id: RoundId) -> bool:
        """Take what a participant revealed in a round out of the store; False when it has not."""
        address = WALLETS[name].address
        revealed = self.federation.history().round(round_id).revealed
        found = [event.manifest for event in revealed if event.participant == address]
        for digest in found:
            manifest = Manifest.parse(self.store.get_block(digest))
            listed = {block for layer in manifest.layers for block in layer.digests}
            if manifest.bundle is not None:
                listed.add(parse_digest(manifest.bundle))
            self.withheld += [self.store.get_block(each) for each in (digest, *listed)]
            self.store.remove_blocks({digest, *listed})
        return bool(found)

    def ask_chain(self, method: str, *params: Any) -> Any:
        """Return what the chain's own method answers, None where it refuses."""
        answer = self.w3.provider.make_request(method, list(params))  # type: ignore[arg-type]
        return answer.get("result")

    # -------------------------------------------------------------------- play

    def play(self) -> None:
        """Start everybody and return once the federation is over and all have gone home."""
        for name in self.schedule.roles:
            self.processes.start(name)
        for _ in range(_MOST_LOOKS):
            if self._is_done():
                return
            for name in self.schedule.roles:
                self._supervise(name)
            with suppress(CommonweightError):
                self._keep_time()
            time.sleep(_LOOK_S)
        raise Stuck(f"not over after {_MOST_LOOKS} looks")

    def _is_done(self) -> bool:
        if self.strikes.is_dropping():  # it brings back those who have gone home
            return False
        if not all(map(self.processes.is_up, [*_SERVICES, *self.schedule.roles])):
            return False
        if any(self.processes.exit_code(name) is None for name in self.schedule.roles):
            return False
        with suppress(CommonweightError):
            return self.federation.is_over() and not any(map(self._is_needed, self.schedule.roles))
        return False

    def _supervise(self, name: str) -> None:
        """Start again who ended although there is more to do, as a container's engine would."""
        code = self.processes.exit_code(name)
        if code is None or (code == 0 and not self._is_needed(name)):
            return
        self.tell(name, f"ended with exit code {code}")
        self._restarts += 1
        if self._restarts > _MOST_RESTARTS:
            raise Stuck(f"{name} ended for the {self._restarts}th time")
        self.processes.kill(name)
        self.strikes.after(_SUPERVISED_S, lambda: self.processes.start(name))

    def _is_needed(self, name: str) -> bool:
        with suppress(CommonweightError):
            if self.federation.is_over():
                # A reorganisation may have undone what it ended on; an engine that restarts what
                # ends, as compose.participant.yml asks it to, brings it back.
                return self.federation.credit_of(WALLETS[name].address) > 0
            if name in (LEAD, STANDBY):
                state = self.federation.aggregator_state(WALLETS[name].address)
                return state is not AggregatorState.SLASHED
            return True
        return False

    def _keep_time(self) -> None:
        if self.schedule.confirmations:
            self.ask_chain("evm_mine")
        if not self.schedule.can_miss_deadlines:
            return
        seconds, missed = self.clock.due(dict(self.strikes.away), set(self.refusing))
        if seconds:
            self.tell("stage", f"lets {seconds} s pass")
            self.ask_chain("evm_increaseTime", seconds)
            self.ask_chain("evm_mine")
        self.strikes.call_home(missed)


def _insist(attempt: Callable[[], T]) -> T:
    """Return what `attempt` does, once it does not fail."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return attempt()
        except CommonweightError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
