"""A federation of processes under a schedule: starts them, strikes, mends, and looks to the clock.

    with Stage(schedule, folder) as stage:
        stage.play()            # until the federation is over, or Stuck is raised
    check(stage)                # tests/faults/checks.py

Chain, IPFS daemon and each role are processes of their own, and SIGKILL is what ends them. A role's
lines lead through the stage (tests/faults/lines.py).
"""

import json
import multiprocessing
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from auditor.replay import Audit
from auditor.verified import Verified
from chain.dev_accounts import dev_account
from chain.federation import Federation
from chain.records import Round, Status, SubmissionState
from chain.rpc import connect
from chain.transactions import Sender
from chain.wallet import Wallet
from protocol.errors import CommonweightError
from protocol.quantities import RoundId
from storage.ipfs import ContentStore
from tests.chain.anvil import find_anvil, running_anvil
from tests.faults import disk, roles
from tests.faults.lines import IpfsLine, RpcLine
from tests.faults.schedule import CHAIN, IPFS, LEAD, STANDBY, Fault, Moment, Point, Schedule
from tests.world import TOKEN, World

T = TypeVar("T")

ROUNDS: Final = 2
_LIMIT_S: Final = 90.0
_LOOK_S: Final = 0.15
_SUPERVISED_S: Final = 0.3  # a role that ended is started again, as a container would be
_MOST_RESTARTS: Final = 60


class Stuck(AssertionError):
    """The federation did not come to its end in time."""


class _Daemon:
    """Stands for a daemon in another process where `World` asks for one."""

    def __init__(self, url: str) -> None:
        self.url = url


class Stage(World):
    """One schedule at play; see the module."""

    def __init__(self, schedule: Schedule, folder: Path) -> None:
        super().__init__(folder, names=schedule.names, rounds=ROUNDS)
        self.schedule = schedule
        self.trace: list[str] = []
        self.excused: set[tuple[int, str]] = set()  # (round, who) that missed a deadline while down
        self.struck: list[Fault] = []
        self._started = time.monotonic()
        self._pending = list(schedule.faults)
        self._lock = threading.RLock()
        self._processes: dict[str, BaseProcess] = {}
        self._down: set[str] = set()
        self._away: dict[str, Fault] = {}
        self._drops: dict[str, tuple[Fault, Any]] = {}
        self._restarts = 0
        self._timers: list[threading.Timer] = []
        self._ended = False
        self._cleanup = ExitStack()

    # ------------------------------------------------------------------- setup

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._cleanup = stack
            self._set_up(stack)
            self._cleanup = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended = True
        for timer in self._timers:
            timer.cancel()
        for name in list(self._processes):
            self._kill(name)
        self._cleanup.close()

    def _set_up(self, stack: ExitStack) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.faults.roles"])
        self._ports = {CHAIN: _free_port(), IPFS: _free_port()}
        self._mount_disks(stack)
        template = _template(self.schedule, self._context)
        for name in ("journal", "ipfs"):
            _copy(template.folder / name, self._folder_of(CHAIN if name == "journal" else IPFS))
        self._start_daemons(stack)
        self.store = ContentStore(f"http://127.0.0.1:{self._ports[IPFS]}", timeout_s=10)
        self._know_people()
        if self.schedule.chain == "anvil":
            self.address, self.deployment_block = found_federation(self)
        else:
            self.address, self.deployment_block = template.address, template.deployment_block
        self._listen(stack)
        people = [*self.names, LEAD, *([STANDBY] if self.schedule.has_standby else [])]
        self.lines = {name: self._open_lines(name, stack) for name in people}

    def _mount_disks(self, stack: ExitStack) -> None:
        for fault in self.schedule.faults:
            folder = self._folder_of(fault.target)
            if fault.kind == "full" and not os.path.ismount(folder) and disk.mount(folder):
                stack.callback(disk.unmount, folder)

    def _start_daemons(self, stack: ExitStack) -> None:
        if self.schedule.chain == "anvil":
            # Blocks follow the wall clock, as the dev chain's do.
            self.chain_url = stack.enter_context(running_anvil())
        else:
            self.chain_url = f"http://127.0.0.1:{self._ports[CHAIN]}"
            self._start(CHAIN)
        self._start(IPFS)
        self.w3 = self.insist(lambda: connect(self.chain_url, timeout_s=10))
        self.daemon = _Daemon(f"http://127.0.0.1:{self._ports[IPFS]}")  # type: ignore[assignment]
        self.insist(lambda: ContentStore(self.daemon.url).id())

    def _know_people(self) -> None:
        know_people(self)

    def _listen(self, stack: ExitStack) -> None:
        self._hooks = f"{stack.enter_context(tempfile.TemporaryDirectory())}/hooks"
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(self._hooks)
        listener.listen(64)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _open_lines(self, name: str, stack: ExitStack) -> tuple[RpcLine, IpfsLine]:
        def reached(point: str, round_id: int | None) -> bool:
            return self._reached(name, point, round_id)

        rpc = RpcLine(self.chain_url, reached)
        ipfs = IpfsLine(self.daemon.url)
        ipfs.__enter__()
        stack.callback(rpc.close)
        stack.callback(ipfs.close)
        return rpc, ipfs

    def _folder_of(self, name: str) -> Path:
        return self.folder / name

    # --------------------------------------------------------------- processes

    def _start(self, name: str) -> None:
        target, argument = self._work_of(name)
        process = self._context.Process(target=target, args=argument, daemon=True)
        process.start()
        with self._lock:
            self._processes[name] = process
            self._down.discard(name)

    def _work_of(self, name: str) -> tuple[Callable[..., None], tuple[Any, ...]]:
        if name == CHAIN:
            return roles.run_chain, (self._folder_of(CHAIN) / "journal", self._ports[CHAIN])
        if name == IPFS:
            return roles.run_ipfs, (self._folder_of(IPFS) / "ipfs", self._ports[IPFS])
        rpc, ipfs = self.lines[name]
        index = {LEAD: 1, STANDBY: 8}.get(name)
        account = dev_account(2 + self.names.index(name) if index is None else index)
        job = roles.Job(
            name=name,
            key=bytes(account.key),
            state=self._folder_of(name) / "state",
            log=self.folder / f"{name}.log",
            hooks=self._hooks,
            rpc_url=rpc.url,
            ipfs_url=ipfs.url,
            address=self.address,
            deployment_block=self.deployment_block,
            participants=len(self.names),
            examples=10 * (1 + self.names.index(name)) if name in self.names else 0,
            confirmations=self.schedule.confirmations,
        )
        return (roles.run_participant if name in self.names else roles.run_aggregator), (job,)

    def _kill(self, name: str) -> None:
        with self._lock:
            process = self._processes.pop(name, None)
            self._down.add(name)
        if process is not None:
            process.kill()
            process.join(10)

    def _restart(self, name: str) -> None:
        if not self._ended and name in self._down:
            self._tell(name, "is started again")
            self._start(name)

    # ------------------------------------------------------------------ faults

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._hear, args=(connection,), daemon=True).start()

    def _hear(self, connection: socket.socket) -> None:
        """Take down what one role reports, and strike where the schedule says so."""
        with connection, suppress(OSError):
            lines = connection.makefile("rw")
            for line in lines:
                told = json.loads(line)
                who, phase = told.pop("who"), told.pop("phase")
                del told["time"]
                facts = " ".join(f"{key}={value}" for key, value in told.items())
                self._tell(who, f"{phase} {facts}".strip())
                if not self._reached(who, phase, told.get("round")):
                    return
                lines.write("\n")
                lines.flush()

    def _reached(self, who: str, point: str, round_id: int | None) -> bool:
        """Strike what is due at this point; False when who got there is dead or must not know."""
        if (who, point) == (LEAD, "opened") and round_id == 1:
            self._start_clock()
        with self._lock:
            due = [f for f in self._pending if _is_at(f.at, who, point, round_id)]
            self._pending = [f for f in self._pending if f not in due]
        self._drop_if_due(who, point)
        for fault in due:
            self._strike(fault)
        is_alive = who not in self._down
        return is_alive and not (point.startswith("after ") and due)

    def _start_clock(self) -> None:
        with self._lock:
            due = [f for f in self._pending if isinstance(f.at, Moment)]
            self._pending = [f for f in self._pending if f not in due]
        for fault in due:
            assert isinstance(fault.at, Moment)
            self._after(fault.at.seconds, lambda fault=fault: self._strike(fault))

    def _strike(self, fault: Fault) -> None:
        if self._ended:
            return
        self._tell("stage", f"STRIKES: {fault}")
        self.struck.append(fault)
        match fault.kind:
            case "kill":
                self._kill(fault.target)
                self._after(fault.seconds, lambda: self._restart(fault.target))
            case "away":
                self._kill(fault.target)
                self._away[fault.target] = fault
            case "cut" | "hold" | "rpc" | "lie":
                self._bend(fault)
            case "full":
                self._fill(fault)
            case "reorg":
                self._prepare_drop(fault)

    def _bend(self, fault: Fault) -> None:
        rpc, ipfs = self.lines[fault.target]
        bent = []
        if fault.kind in ("cut", "hold"):
            bent = [rpc] if fault.detail in ("rpc", "both") else []
            bent_ipfs = [ipfs.line] if fault.detail in ("ipfs", "both") else []
            for line in (*bent, *bent_ipfs):
                line.bend(fault.kind)
            self._after(fault.seconds, lambda: [each.mend() for each in (*bent, *bent_ipfs)])
            return
        line = ipfs.line if fault.kind == "lie" else rpc
        line.bend(fault.detail)
        self._after(fault.seconds, line.mend)

    def _fill(self, fault: Fault) -> None:
        folder = self._folder_of(fault.target)
        if os.path.ismount(folder):
            disk.fill(folder)
            self._after(fault.seconds, lambda: disk.free(folder))

    def _prepare_drop(self, fault: Fault) -> None:
        """Remember the chain as it is now, before the transaction."""
        if self.schedule.chain == "anvil":
            mark: Any = self.w3.eth.block_number
        else:
            mark = self._ask_chain("evm_snapshot")
        self._drops[_TOLD[fault.detail]] = (fault, mark)

    def _drop_if_due(self, who: str, point: str) -> None:
        """Undo the chain once the role has seen its transaction mined, or a little later."""
        with self._lock:
            drop = self._drops.pop(point, None)
        if drop is None:
            return
        fault, mark = drop
        if fault.seconds < 1.0:  # before the role goes on
            self._drop(fault, mark)
        else:
            self._after(fault.seconds - 1.0, lambda: self._drop(fault, mark))

    def _drop(self, fault: Fault, mark: Any) -> None:
        try:
            if self.schedule.chain == "anvil":
                depth = self.w3.eth.block_number - mark
                self._ask_chain("anvil_reorg", depth, [])
            else:
                depth = -1
                self._ask_chain("evm_revert", mark)
        except CommonweightError as error:
            self._tell("stage", f"no reorganisation: {error}")
            return
        self._tell("stage", f"REORGANISES: the {fault.detail} is dropped (depth {depth})")

    # ------------------------------------------------------------------- clock

    def play(self) -> Status:
        """Start everybody and return once the federation is over and all have gone home."""
        for name in self.lines:
            self._start(name)
        deadline = time.monotonic() + _LIMIT_S
        while not self._is_done():
            if time.monotonic() > deadline:
                raise Stuck(f"not over after {_LIMIT_S:.0f} s")
            self._supervise()
            with suppress(CommonweightError):
                self._keep_time()
            time.sleep(_LOOK_S)
        return self.client().status(RoundId(ROUNDS))

    def _is_done(self) -> bool:
        if self._down or self._away:
            return False
        roles_at_work = [n for n, p in self._processes.items() if n in self.lines if p.is_alive()]
        if roles_at_work:
            return False
        with suppress(CommonweightError):
            return self.client().is_over()
        return False

    def _supervise(self) -> None:
        """Start again whoever ended although the federation goes on."""
        with self._lock:
            ended = [n for n, p in self._processes.items() if n in self.lines and not p.is_alive()]
        for name in ended:
            code = self._processes[name].exitcode
            if code == 0 and (name, LEAD) and self._is_home(name):
                continue
            self._tell(name, f"ended with exit code {code}")
            self._restarts += 1
            if self._restarts > _MOST_RESTARTS:
                raise Stuck(f"{name} ended {self._restarts} times")
            with self._lock:
                del self._processes[name]
                self._down.add(name)
            self._after(_SUPERVISED_S, lambda name=name: self._restart(name))

    def _is_home(self, name: str) -> bool:
        """Whether this role has nothing to do any more: all is over, or its bond is lost."""
        with suppress(CommonweightError):
            federation = self.client()
            if federation.is_over():
                return True
            if name in (LEAD, STANDBY):
                wallet = self.aggregator if name == LEAD else self.standby
                return federation.aggregator_state(wallet.address).name == "SLASHED"
        return True

    def _keep_time(self) -> None:
        """Let a deadline pass where somebody is away for it and all others have acted."""
        federation = self.client()
        newest = federation.round_count()
        if self.schedule.confirmations:
            self._ask_chain("evm_mine")
        if newest and self._away:
            self._pass_deadline(federation, newest)
        elif self._is_stalled(federation):
            # Nobody can open a round any more: the federation ends when it closes.
            closes_at = federation.terms().closes_at
            self._travel(closes_at - self.now() + 1)

    def _pass_deadline(self, federation: Federation, round_id: RoundId) -> None:
        away = dict(self._away)
        facts, status = federation.get_round(round_id), federation.status(round_id)
        if status in (Status.COMMIT, Status.REVEAL):
            wanted = {Status.COMMIT: SubmissionState.NONE, Status.REVEAL: SubmissionState.COMMITTED}
            late = {
                name
                for name in self.names
                if self._state_of(federation, round_id, name) is wanted[status]
                and self._is_expected(federation, round_id, name)
            }
            if late and late <= set(away):
                self.excused |= {(round_id, name) for name in late}
                end = facts.commit_deadline if status is Status.COMMIT else facts.reveal_deadline
                self._travel(end - self.now() + 1)
                self._call_home(late)
        elif status is Status.PROPOSE and LEAD in away:
            self.excused.add((round_id, LEAD))
            self._travel(facts.propose_deadline - self.now() + 1)
            self._call_home({LEAD})

    def _call_home(self, late: set[str]) -> None:
        for name in late:
            fault = self._away.pop(name)
            # Who committed and was not there for the reveal stays away for both.
            self._after(fault.seconds, lambda name=name: self._restart(name))

    def _state_of(self, federation: Federation, round_id: RoundId, name: str) -> SubmissionState:
        return federation.get_submission(round_id, self.address_of(name)).state

    def _is_expected(self, federation: Federation, round_id: RoundId, name: str) -> bool:
        standing = federation.get_participant(self.address_of(name))
        committed = self._state_of(federation, round_id, name) is not SubmissionState.NONE
        return committed or (standing.active and standing.joined_after_round < round_id)

    def _is_stalled(self, federation: Federation) -> bool:
        """Whether every aggregator lost its bond with rounds still to be opened."""
        if federation.is_over():
            return False
        listed = [self.aggregator, *([self.standby] if self.schedule.has_standby else [])]
        return all(federation.aggregator_state(w.address).name == "SLASHED" for w in listed)

    def now(self) -> int:
        """The time of the next block."""
        return int(self.w3.eth.get_block("pending")["timestamp"])

    def _travel(self, seconds: int) -> None:
        self._tell("stage", f"lets {seconds} s pass")
        self._ask_chain("evm_increaseTime", seconds)
        self._ask_chain("evm_mine")

    # ------------------------------------------------------------------- small

    def client(self, wallet: Wallet | None = None) -> Federation:
        if not hasattr(self, "_reader"):
            self._reader = super().client()
        return self._reader if wallet is None else super().client(wallet)

    def round(self, round_id: int) -> Round:
        return self.client().get_round(RoundId(round_id))

    def audit(self) -> list[Verified]:
        folder = self.folder / "audit"
        return list(Audit(self.client(), self.store, folder).run())

    def insist(self, attempt: Callable[[], T], seconds: float = 30.0) -> T:
        """Return what `attempt` does, once it does not fail."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                return attempt()
            except CommonweightError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _ask_chain(self, method: str, *params: Any) -> Any:
        answer = self.w3.provider.make_request(method, list(params))  # type: ignore[arg-type]
        return answer.get("result")

    def _after(self, seconds: float, action: Callable[[], object]) -> None:
        timer = threading.Timer(seconds, action)
        timer.daemon = True
        with self._lock:
            self._timers.append(timer)
        timer.start()

    def _tell(self, who: str, what: str) -> None:
        self.trace.append(f"{time.monotonic() - self._started:7.2f}  {who:<10}  {what}")


def can_start(schedule: Schedule) -> str:
    """Return what this machine lacks for a schedule; nothing when it can be played."""
    if schedule.chain == "anvil" and find_anvil() is None:
        return "needs anvil (npm ci in contracts)"
    return ""


_TOLD: Final = {
    "openRound": "opened",
    "commit": "committed",
    "reveal": "revealed",
    "propose": "proposed",
    "finalize": "finalized",
}


def _is_at(at: Point | Moment, who: str, point: str, round_id: int | None) -> bool:
    if isinstance(at, Moment) or (at.role, at.name) != (who, point):
        return False
    return round_id in (None, at.round_id)


# ------------------------------------------------------------------------------- the template


class _Template:
    """A chain and an IPFS repository with a federation, made once a process and then copied."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address: Any = None
        self.deployment_block = 0


_templates: dict[tuple[int, bool], _Template] = {}


def _template(schedule: Schedule, context: Any) -> _Template:
    key = (schedule.participants, schedule.has_standby)
    if key not in _templates:
        folder = Path(tempfile.mkdtemp(prefix="faults-"))
        world = _Founding(folder, schedule)
        _templates[key] = world.found(context)
    return _templates[key]


class _Founding(World):
    """Deploys a federation whose participants have joined, on daemons that are then killed."""

    def __init__(self, folder: Path, schedule: Schedule) -> None:
        super().__init__(folder, names=schedule.names, rounds=ROUNDS)
        self.schedule = schedule

    def found(self, context: Any) -> _Template:
        ports = _free_port(), _free_port()
        journal, repo = self.folder / "journal" / "journal", self.folder / "ipfs" / "ipfs"
        daemons = [
            context.Process(target=roles.run_chain, args=(journal, ports[0]), daemon=True),
            context.Process(target=roles.run_ipfs, args=(repo, ports[1]), daemon=True),
        ]
        repo.parent.mkdir(parents=True)
        for daemon in daemons:
            daemon.start()
        try:
            self.w3 = _insist(lambda: connect(f"http://127.0.0.1:{ports[0]}"))
            self.store = ContentStore(f"http://127.0.0.1:{ports[1]}")
            _insist(self.store.id)
            know_people(self)
            found = _Template(self.folder)
            found.address, found.deployment_block = found_federation(self)
        finally:
            for daemon in daemons:
                daemon.kill()
                daemon.join()
        return found


def know_people(world: World) -> None:
    """Give everybody a wallet."""
    world.sponsor = Sender(world.w3, Wallet.from_key(bytes(dev_account(0).key)))
    world.wallets = {
        name: Wallet.from_key(bytes(dev_account(2 + index).key))
        for index, name in enumerate(world.names)
    }
    world.aggregator = Wallet.from_key(bytes(dev_account(1).key))
    world.standby = Wallet.from_key(bytes(dev_account(8).key))


def found_federation(world: Any) -> tuple[Any, int]:
    """Deploy, fill the wallets and let every participant join, and a standby post its bond."""
    world.address, world.deployment_block = world._deploy()
    world._fill_wallets()
    for wallet in world.wallets.values():
        World.client(world, wallet).join()
    if world.schedule.has_standby:
        World.client(world, world.standby).bond()
    return world.address, world.deployment_block


def _insist(attempt: Callable[[], T]) -> T:
    deadline = time.monotonic() + 30
    while True:
        try:
            return attempt()
        except CommonweightError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


__all__ = ["ROUNDS", "TOKEN", "Stage", "Stuck"]
