"""Hosts of their own for the roles: network namespaces, with a cable to each service.

    with Host(1, ("rpc", "ipfs")) as host:
        host.address("rpc")          # where the service listens, on our side of its cable
        host.unplug("rpc")           # what either side sends is lost from now on
        host.plug("rpc")

A process enters with `enter(host.namespace)`. The namespace ends with this process, however that
ends. It takes root and Linux: `can_make_hosts` tells.
"""

import ctypes
import os
import subprocess
from contextlib import suppress
from functools import cache
from types import TracebackType
from typing import Final, Self

_CLONE_NEWNET: Final = 0x40000000


class Host:
    """One network namespace. `number`, below 32, sets it apart from others of this process."""

    def __init__(self, number: int, services: tuple[str, ...]) -> None:
        self._number = number
        self._services = services

    def __enter__(self) -> Self:
        # `cat` ends when our end of its input closes, and the namespace with its last process.
        command = ["unshare", "--net", "sh", "-c", "echo; exec cat"]
        self._keeper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._keeper.stdout is not None
        self._keeper.stdout.readline()
        self.namespace = f"/proc/{self._keeper.pid}/ns/net"
        outside, inside = [], ["link set lo up"]
        for service in self._services:
            cable, ours, theirs = self._cable(service), *self._ends(service)
            outside += [
                f"link add {cable} type veth peer name {service} netns {self._keeper.pid}",
                f"addr add {ours}/30 dev {cable}",
                f"link set {cable} up",
            ]
            inside += [f"addr add {theirs}/30 dev {service}", f"link set {service} up"]
        _run_ip(["ip"], outside)
        _run_ip(["nsenter", f"--net={self.namespace}", "ip"], inside)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._keeper.communicate()

    def address(self, service: str) -> str:
        """Return the address at which this host finds a service."""
        return self._ends(service)[0]

    def unplug(self, service: str) -> None:
        """Lose all that is sent between this host and a service, without a word to either."""
        _run_ip(["ip"], [f"link set {self._cable(service)} down"])

    def plug(self, service: str) -> None:
        """Mend what `unplug` broke."""
        _run_ip(["ip"], [f"link set {self._cable(service)} up"])

    def _cable(self, service: str) -> str:
        return f"cw{os.getpid()}n{self._number}{service[0]}"

    def _ends(self, service: str) -> tuple[str, str]:
        """Return both addresses of a cable; those of another process differ but for rare luck."""
        process, cable = os.getpid() % 0x4000, 2 * self._number + self._services.index(service)
        network = f"10.{192 + (process >> 8)}.{process & 0xFF}"
        return f"{network}.{4 * cable + 1}", f"{network}.{4 * cable + 2}"


def enter(namespace: str) -> None:
    """Move this thread, and all it will start, into a host's namespace."""
    descriptor = os.open(namespace, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
    finally:
        os.close(descriptor)


@cache
def can_make_hosts() -> bool:
    """Whether this machine lets us."""
    with suppress(OSError, subprocess.CalledProcessError), Host(31, ("rpc",)):
        return True
    return False


def _run_ip(command: list[str], lines: list[str]) -> None:
    done = [*command, "-batch", "-"]
    subprocess.run(done, input="\n".join(lines) + "\n", text=True, check=True, capture_output=True)
