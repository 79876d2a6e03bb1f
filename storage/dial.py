"""Which addresses are dialled when a stranger names one, and how.

An announced address is a wish of a stranger: it may name a machine of our own network, or somebody
who never asked for it. So it is resolved here and dialled by the very address that was looked at,
which must be reachable by everybody, on port 443, with TLS to the announced name. Nothing is taken
from the environment but the certificates that OpenSSL trusts.
"""

import queue
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address
from typing import Final

from protocol.errors import Unavailable
from protocol.whereabouts import Gateway, HostKind, PeerAddress
from storage.http import Clock, TimeLimit, one_line, open_tunnel

_CONNECT_S: Final = 10.0
_RESOLVE_S: Final = 10.0
_MOST_ADDRESSES: Final = 4  # of one name are tried

# What Python's `is_global` lets pass and nobody else can be reached at: addresses that carry an
# IPv4 address (6to4, NAT64, mapped and compatible ones lie outside 2000::/3), relays, examples.
_NOT_PUBLIC_4: Final = (IPv4Network("192.88.99.0/24"),)
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NOT_PUBLIC_6: Final = tuple(
    map(IPv6Network, ("2001::/23", "2002::/16", "2001:db8::/32", "3fff::/20"))
)
_FAMILIES: Final = {"ip4": socket.AF_INET, "ip6": socket.AF_INET6, "dns4": socket.AF_INET}

Resolver = Callable[[str, socket.AddressFamily], list[str]]
"""Returns the IP addresses of a host; OSError when there are none."""


def is_public(text: str) -> bool:
    """Whether an IP address is one that everybody can reach, and of one machine."""
    address = ip_address(text)
    if address.is_multicast or not address.is_global:
        return False
    if isinstance(address, IPv4Address):
        return not address.is_reserved and not any(address in net for net in _NOT_PUBLIC_4)
    return address in _GLOBAL_UNICAST and not any(address in net for net in _NOT_PUBLIC_6)


def ask_system(host: str, family: socket.AddressFamily) -> list[str]:
    """Return the addresses that the operating system finds for `host`."""
    found = socket.getaddrinfo(host, None, family, socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True)
class DialRules:
    """What may be dialled of what others announce.

    `allow_private` is for local networks: it lets pass every address, every port, and http.
    `proxy` is the host and port of an HTTP proxy through which all is dialled, by address too.
    """

    allow_private: bool = False
    proxy: tuple[str, int] | None = None
    resolve: Resolver = ask_system

    def addresses(self, host: str, family: socket.AddressFamily, clock: Clock) -> list[str]:
        """Return the addresses of `host` that may be dialled; Unavailable when there are none."""
        try:
            found = _within(min(clock.left(), _RESOLVE_S), lambda: self.resolve(host, family))
        except OSError as error:
            raise Unavailable(
                f"{host} is not found: {one_line(error)[:120]}", service="storage"
            ) from None
        allowed = [each for each in found if self.allow_private or is_public(each)]
        if not allowed:
            shown = ", ".join(found[:_MOST_ADDRESSES]) or "no address"
            raise Unavailable(
                f"{host} is at {shown}, where not everybody can reach it",
                service="storage",
            )
        return allowed[:_MOST_ADDRESSES]

    def peer_addresses(self, address: PeerAddress, timeout_s: float) -> list[str]:
        """Return the multiaddrs of a peer's address, with IP addresses in place of names."""
        clock = Clock(TimeLimit(timeout_s, timeout_s))
        found = self.addresses(address.host, _family(address.kind), clock)
        return [address.at(each) for each in found]

    def dial(self, gateway: Gateway, clock: Clock) -> socket.socket:
        """Return a new connection to a gateway; Unavailable when the rules refuse it."""
        is_plain = (gateway.scheme, gateway.port) != ("https", 443)
        if is_plain and not self.allow_private:
            raise Unavailable(
                f"{gateway.line}: announced gateways are read by https on port 443 alone",
                service="storage",
            )
        failure: OSError | None = None
        for address in self.addresses(gateway.host, socket.AF_UNSPEC, clock):
            try:
                sock = self._connect(address, gateway.port, clock)
            except OSError as error:
                failure = error
                continue
            return _secure(sock, gateway.host, clock) if gateway.scheme == "https" else sock
        assert failure is not None  # there was an address
        raise failure

    def _connect(self, address: str, port: int, clock: Clock) -> socket.socket:
        if self.proxy is None:
            return socket.create_connection((address, port), min(clock.left(), _CONNECT_S))
        sock = socket.create_connection(self.proxy, min(clock.left(), _CONNECT_S))
        try:
            open_tunnel(
                sock, f"[{address}]:{port}" if ":" in address else f"{address}:{port}", clock
            )
        except BaseException:
            sock.close()
            raise
        return sock


def _secure(sock: socket.socket, host: str, clock: Clock) -> socket.socket:
    try:
        # The whole handshake is under one timeout, not each of its packets.
        sock.settimeout(clock.left())
        return _tls().wrap_socket(sock, server_hostname=host)
    except BaseException:
        sock.close()
        raise


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()  # reading the certificates takes 20 ms


def _family(kind: HostKind) -> socket.AddressFamily:
    return _FAMILIES.get(kind, socket.AF_INET6)


def _within(seconds: float, work: Callable[[], list[str]]) -> list[str]:
    """Return what `work` returns; TimeoutError after `seconds`."""
    # A thread of its own: the system's resolver takes no time limit.
    results: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

    def run() -> None:
        try:
            results.put(work())
        except (OSError, UnicodeError) as error:
            results.put(error if isinstance(error, OSError) else OSError(str(error)))

    threading.Thread(target=run, daemon=True, name="resolve").start()
    try:
        result = results.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"no answer within {seconds:.3g} s") from None
    if isinstance(result, OSError):
        raise result
    return result
