"""Checks of a running role's store, and of what another account announced.

for finding in check_store(settings, address):
    print(finding.line())
"""

import time
from collections.abc import Iterator

from chain.announcements import Announcement, read_announcements
from chain.federation import Federation, connect_federation
from chain.location import FederationLocation
from ethereum.wallet import keystore_address
from protocol.errors import Misconfigured
from protocol.spec import Spec
from protocol.types import Address, Digest
from protocol.whereabouts import Gateway, Peer, Place
from runtime.preflight import Finding, founding_blocks, looking
from runtime.settings import RoleSettings
from storage.blocks import Store
from storage.dial import DialRules
from storage.gateway import GatewayStore
from storage.ipfs import ContentStore
from storage.proof import prove_gateway, prove_store

_TIMEOUT_S = 20.0


def check_store(settings: RoleSettings, address: Address | None) -> Iterator[Finding]:
    """Check that a role's store takes an update, and each place that `address` announced.

    A peer is asked through the own daemon, by its authenticated connection, a gateway directly.
    """
    location = FederationLocation.load(settings.federation)
    federation, itself = connect_federation(location).now(), keystore_address(settings.keystore)
    announced = read_announcements(federation)
    sources = settings.store.open(location.ipfs_url, itself)
    sources.learn(announced, federation.round_count())
    spec: Spec | None = None
    with looking("store") as finding:
        spec = Spec.parse(sources.get_block(federation.terms().identity.spec_digest))
        size = spec.total_bytes(spec.update_kind)
        seconds = prove_store(sources, size, settings.store.reader())
        read = settings.store.public or sources.address
        finding.text = f"{size:,} bytes written and read back from {read}: {seconds:.1f} s"
    yield finding
    if spec is not None and (reader := settings.store.reader()) is not None:
        with looking("gateway") as finding:
            prove_gateway(reader, sources, founding_blocks(federation, spec))
            finding.text = f"{settings.store.public} shows what this store holds, no more"
        yield finding
    if address is None:
        return
    made = next((each for each in announced if each.who == address), None)
    with looking("announced") as finding:
        finding.text = _announced(address, made)
    yield finding
    block = newest_manifest(federation, address)
    for place in made.places if made is not None else ():
        with looking("gateway" if isinstance(place, Gateway) else "peer") as finding:
            what, seconds = ask_place(place, settings.store.rules, sources.own, block)
            finding.text = f"{place.line} {what}: {seconds:.2f} s"
        yield finding


def _announced(address: Address, made: Announcement | None) -> str:
    if made is None:
        raise Misconfigured(
            f"{address} has announced nothing, or has no part in the federation: nobody reads it"
        )
    if not made.places:
        raise Misconfigured(f"{address} announced no place that is understood")
    return f"{len(made.places)} places in block {made.block:,}, as {made.role}"


def newest_manifest(federation: Federation, address: Address) -> Digest | None:
    """Return the manifest that an account revealed or proposed last; None without any."""
    newest = None
    for told in federation.history().rounds.values():
        revealed = [each.manifest for each in told.revealed if each.participant == address]
        proposed = [each.manifest for each in told.proposals if each.aggregator == address]
        newest = next(reversed([*revealed, *proposed]), newest)
    return newest


def ask_place(
    place: Place, rules: DialRules, own: Store | None, block: Digest | None
) -> tuple[str, float]:
    """Ask an announced place, for `block` too if that is known; return its answer and the seconds.

    A peer is asked through `own`. Raises what a place that does not answer deserves.
    """
    began = time.monotonic()
    if isinstance(place, Gateway):
        what = _ask_gateway(place, rules, block)
    else:
        what = _ask_peer(place, rules, own)
    return what, time.monotonic() - began


def _ask_gateway(place: Gateway, rules: DialRules, block: Digest | None) -> str:
    gateway = GatewayStore(place, rules, _TIMEOUT_S)
    gateway.probe()
    if block is None:
        return "answers; there is no block to ask for yet"
    gateway.get_block(block)
    return "answers, and has the newest manifest"


def _ask_peer(place: Peer, rules: DialRules, own: Store | None) -> str:
    if not isinstance(own, ContentStore):
        raise Misconfigured("a peer is asked through a daemon, and this role has none")
    addresses = [place.line]
    if place.address is not None:
        found = rules.peer_addresses(place.address, _TIMEOUT_S)
        addresses = [f"{address}/p2p/{place.id}" for address in found]
    own.connect_peer(addresses)
    return "is connected"
