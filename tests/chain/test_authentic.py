"""A contract that only looks like a federation is refused in one line, before anything is sent."""

from typing import Any

import pytest
from web3 import Web3

from chain.authentic import (
    FACTORY,
    IMPLEMENTATION,
    check_factory,
    check_federation,
    find_founding,
    find_implementation,
)
from chain.deploy import deploy_factory
from chain.factory import Factory, known_factory
from chain.federation import Federation, connect_federation
from chain.location import FederationLocation
from contracts.compiler import load_artifact
from devnet.tester import connect_tester
from ethereum.transactions import Sender
from ethereum.wallet import Wallet
from protocol.errors import Misconfigured
from protocol.types import Address
from tests.chain.stage import Stage, ask, make_terms, now
from tests.terms import factory_of

NOT_OURS = "is not a federation of this version"


def deploy(sender: Sender, code: bytes) -> Address:
    """Deploy any runtime code and return its address."""
    # PUSH2 length, DUP1, PUSH1 11, PUSH0, CODECOPY, PUSH0, RETURN: return what follows.
    prelude = bytes.fromhex("61") + len(code).to_bytes(2, "big") + bytes.fromhex("80600a5f395ff3")
    receipt = sender.send(None, prelude + code)
    assert receipt.contract_address is not None
    return Address(Web3.to_checksum_address(receipt.contract_address))


def code_of(w3: Web3, address: Address) -> bytes:
    return bytes(w3.eth.get_code(Web3.to_checksum_address(address)))


def proxy_to(implementation: Address, args: bytes) -> bytes:
    """Return the code of a minimal proxy with arguments behind it."""
    head, tail = "363d3d373d3d3d363d73", "5af43d82803e903d91602b57fd5bf3"
    return bytes.fromhex(head + implementation[2:] + tail) + args


def arguments(stage: Stage) -> bytes:
    return code_of(stage.w3, stage.sponsor.address)[45:]


@pytest.fixture
def sender(stage: Stage) -> Sender:
    return stage.outsider.sender


def test_a_genuine_federation_names_its_founding(stage: Stage) -> None:
    founding = stage.sponsor.founding()
    assert founding.block == stage.sponsor.deployment_block
    assert founding.factory == factory_of(stage.sponsor.sender).address
    created_at = stage.sponsor.created_at()
    # Whether the block is known or has to be found by its time.
    for hint in (0, founding.block, founding.block + 1, 10**9):
        assert find_founding(stage.w3, stage.sponsor.address, created_at, hint) == founding


def test_the_factory_lists_what_it_founded(stage: Stage) -> None:
    factory = factory_of(stage.sponsor.sender)
    listed = factory.federations()
    (found,) = [each for each in listed if each.federation == stage.sponsor.address]
    assert (found.sponsor, found.block) == (
        stage.sponsor.sender.address,
        stage.sponsor.deployment_block,
    )
    assert found.spec_digest == stage.terms.identity.spec_digest
    assert factory.federations(found.block + 1) == [e for e in listed if e.block > found.block]
    assert known_factory(31337) is None


def test_no_contract_and_any_other_contract(stage: Stage, sender: Sender) -> None:
    with pytest.raises(Misconfigured, match=f"there is no contract at {sender.address}"):
        Federation(stage.w3, sender.address)
    for other in (stage.token.address, factory_of(stage.sponsor.sender).address):
        with pytest.raises(Misconfigured, match=NOT_OURS):
            Federation(stage.w3, other)


def test_a_proxy_that_does_more_is_refused(stage: Stage, sender: Sender) -> None:
    """One other byte in the proxy's own code, before or behind the implementation's address."""
    genuine = code_of(stage.w3, stage.sponsor.address)
    for place in (0, 9, 30, 44):
        changed = bytearray(genuine)
        changed[place] ^= 1
        with pytest.raises(Misconfigured, match=NOT_OURS):
            check_federation(stage.w3, deploy(sender, bytes(changed)))


def test_a_proxy_of_other_code_is_refused(stage: Stage, sender: Sender) -> None:
    """The implementation differs in one byte, and answers every question as the genuine one."""
    implementation = find_implementation(stage.w3, stage.sponsor.address)
    changed = bytearray(code_of(stage.w3, implementation))
    # The last byte of a selector that only a refusal uses: nothing that is read here differs.
    refusal = Web3.keccak(text="NotEligible(uint256,address)")[:4]
    changed[changed.index(refusal) + 3] ^= 1
    forged = deploy(sender, proxy_to(deploy(sender, bytes(changed)), arguments(stage)))
    with pytest.raises(Misconfigured, match=f"the contract at {forged} {NOT_OURS}$"):
        Federation(stage.w3, forged)


@pytest.mark.parametrize("library", sorted(load_artifact(IMPLEMENTATION)["deployedLinkReferences"]))
def test_a_proxy_of_another_library_is_refused(stage: Stage, sender: Sender, library: str) -> None:
    """The implementation is right but for the address of a library, whose code differs."""
    implementation = bytearray(
        code_of(stage.w3, find_implementation(stage.w3, stage.sponsor.address))
    )
    places = load_artifact(IMPLEMENTATION)["deployedLinkReferences"][library]
    start = places[0]["start"]
    genuine = Address(Web3.to_checksum_address(bytes(implementation[start : start + 20])))
    changed = bytearray(code_of(stage.w3, genuine))
    changed[-1] ^= 1
    other = deploy(sender, bytes(changed))
    for place in places:
        implementation[place["start"] : place["start"] + 20] = bytes.fromhex(other[2:])
    forged = deploy(sender, proxy_to(deploy(sender, bytes(implementation)), arguments(stage)))
    with pytest.raises(Misconfigured, match=f"{NOT_OURS}: its {library} at {other} differs"):
        Federation(stage.w3, forged)
    # In one place only: what is linked where must be one and the same.
    once = bytearray(code_of(stage.w3, find_implementation(stage.w3, stage.sponsor.address)))
    last = places[-1]["start"]
    once[last : last + 20] = bytes.fromhex(other[2:])
    if len(places) > 1:
        forged = deploy(sender, proxy_to(deploy(sender, bytes(once)), arguments(stage)))
        with pytest.raises(Misconfigured, match=NOT_OURS):
            Federation(stage.w3, forged)


def test_terms_that_no_factory_has_checked_are_refused(
    stage: Stage, sender: Sender, rpc_url: str
) -> None:
    """Attack 12: the right code, called by a proxy of one's own with terms out of every range."""
    implementation = find_implementation(stage.w3, stage.sponsor.address)
    bare = deploy(sender, proxy_to(implementation, arguments(stage)))
    federation = Federation(stage.w3, bare)  # the code is right
    assert federation.terms() == stage.terms
    line = f"no factory of this version says that it founded {bare}"
    with pytest.raises(Misconfigured, match=line):
        federation.founding()
    location = FederationLocation(
        chain_id=stage.sponsor.chain_id,
        address=bare,
        deployment_block=0,
        rpc_url=rpc_url,
        ipfs_url="http://127.0.0.1:1",
    )
    with pytest.raises(Misconfigured, match=line):
        connect_federation(location)


def test_an_event_of_another_contract_founds_nothing(stage: Stage, sender: Sender) -> None:
    """The proxy names the very block in which a contract of the attacker's says it founded it."""
    claimed = now(stage.w3) + 1_000
    args = bytearray(arguments(stage))
    args[37 * 32 : 38 * 32] = claimed.to_bytes(32, "big")  # createdAt, behind the sponsor
    implementation = find_implementation(stage.w3, stage.sponsor.address)
    bare = deploy(sender, proxy_to(implementation, bytes(args)))
    assert Federation(stage.w3, bare).created_at() == claimed
    topic = Web3.keccak(text="FederationCreated(address,address,bytes32)")
    push = "7f" + "00" * 32 + "73" + sender.address[2:] + "73" + bare[2:] + "7f" + topic.hex()
    emitter = deploy(sender, bytes.fromhex(push + "5f5fa4"))  # LOG4 without data
    ask(stage.w3, "evm_setNextBlockTimestamp", claimed)
    receipt = sender.send(emitter, b"")
    assert bytes(receipt.logs[0]["topics"][1])[12:].hex() == bare[2:].lower()
    with pytest.raises(Misconfigured, match=f"no factory of this version says .* founded {bare}"):
        Federation(stage.w3, bare).founding()


def test_another_factory_is_refused(stage: Stage, sender: Sender) -> None:
    factory = factory_of(stage.sponsor.sender)
    assert check_factory(stage.w3, factory.address) == find_implementation(
        stage.w3, stage.sponsor.address
    )
    changed = bytearray(code_of(stage.w3, factory.address))
    changed[-1] ^= 1
    forged = deploy(sender, bytes(changed))
    with pytest.raises(Misconfigured, match=f"the factory at {forged} is not a factory of this"):
        Factory(stage.w3, forged)
    # The factory's code is right, its immutable value leads to another implementation.
    redirected = bytearray(code_of(stage.w3, factory.address))
    for reference in load_artifact(FACTORY)["immutableReferences"]:
        end = reference["start"] + reference["length"]
        redirected[end - 20 : end] = bytes.fromhex(stage.token.address[2:])
    other = deploy(sender, bytes(redirected))
    with pytest.raises(Misconfigured, match=f"the factory at {other} is not a federation of this"):
        Factory(stage.w3, other)


def test_a_factory_deploys_each_library_once(wallets: tuple[Wallet, ...]) -> None:
    w3: Any = connect_tester()
    factory = deploy_factory(Sender(w3, wallets[0]))
    # Four libraries and the factory, which deploys the implementation itself.
    assert w3.eth.block_number == len(load_artifact(IMPLEMENTATION)["linkReferences"]) + 1
    implementation = check_factory(w3, factory.address)
    assert len(code_of(w3, implementation)) <= 20_000
    terms = make_terms(w3, implementation)  # any contract will do for a token
    assert factory.create(terms, [wallets[1].address]).terms() == terms
