"""Preflight checks of a role: each says what it found, or what is missing and how to get it.

preflight = ParticipantPreflight(answers, data, model, cache)      # node/preflight.py
for finding in preflight.findings():
    print(finding.line())
preflight.location          # what to write to federation.json, once the contract was found
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from chain.announcements import read_announcements
from chain.federation import Federation
from chain.location import FederationLocation
from ethereum.rpc import connect, plain_errors
from ethereum.wallet import Wallet, load_keystore
from protocol.encoding import Kind
from protocol.errors import CommonweightError, Misconfigured
from protocol.spec import Spec
from protocol.types import Address, Digest, format_tokens, parse_address, parse_digest
from runtime.stores import StoreSettings
from storage.ipfs import ContentStore
from storage.proof import prove_gateway, prove_store


@dataclass(frozen=True)
class Answers:
    """What the user gave; `password` is None when there is no way to ask for it."""

    rpc_url: str
    ipfs_url: str
    address: str
    keystore: Path
    password: str | None
    chain_id: int | None = None
    from_block: int | None = None
    store: StoreSettings = field(default_factory=StoreSettings)


@dataclass
class Finding:
    """The result of one check: `text` says what was found, or what is missing.

    A warning is no fault, and should be read before going on.
    """

    subject: str
    is_ok: bool = True
    text: str = ""
    is_warning: bool = False

    def line(self) -> str:
        """Return the finding for a person."""
        mark = "MISSING" if not self.is_ok else "WARNING" if self.is_warning else "ok"
        return f"{mark:<7}  {self.subject:<12} {self.text}"


@contextmanager
def looking(subject: str) -> Iterator[Finding]:
    """Yield a finding for a check to describe; a failure of the check is what it then says.

    A failure does not leave the block: one fault must not hide those behind it.
    """
    finding = Finding(subject)
    try:
        yield finding
    except CommonweightError as error:
        finding.is_ok, finding.text = False, str(error)
    except ModuleNotFoundError as error:
        # Only training is optional among what is checked here.
        advice = "pip install 'commonweight[train]'"
        finding.is_ok, finding.text = False, f"{error.name} is not installed: {advice}"


class Preflight:
    """The checks that every role needs, in the order in which faults are best put right.

    Each attribute stays None until its check has found it.
    """

    uploads: ClassVar[Kind | None] = None
    """What the role puts into its store; None for its updates."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.wallet: Wallet | None = None
        self.location: FederationLocation | None = None
        self.federation: Federation | None = None
        self.spec: Spec | None = None

    def common_findings(self) -> Iterator[Finding]:
        """Check wallet, chain, contract, IPFS and spec; what rests on a missing one is left out."""
        answers = self.answers
        w3 = None

        # 1. The wallet.
        with looking("wallet") as finding:
            if answers.password is None:
                raise Misconfigured("no password for the keystore: give --password-file")
            self.wallet = load_keystore(answers.keystore, answers.password)
            finding.text = f"{self.wallet.address}, its file is readable by its owner alone"
        yield finding

        # 2. The chain.
        with looking("chain") as finding:
            w3 = connect(answers.rpc_url, chain_id=answers.chain_id)
            with plain_errors():
                finding.text = f"chain {w3.eth.chain_id} at block {w3.eth.block_number:,}"
        yield finding

        # 3. The contract. Also when the node failed to name its block: it may answer by now.
        if w3 is not None:
            with looking("contract") as finding:
                address = parse_address(answers.address)
                federation = Federation(w3, address, self.wallet)
                federation.deployment_block = answers.from_block or 0
                # Also shows that a factory of this version has checked its terms.
                block = federation.deployment_block = federation.founding().block
                self.federation = federation
                with plain_errors():
                    chain_id = int(w3.eth.chain_id)
                # Before the next check: settings are written for a federation that is over, too.
                self.location = FederationLocation(
                    chain_id=chain_id,
                    address=address,
                    deployment_block=block,
                    rpc_url=answers.rpc_url,
                    ipfs_url=answers.ipfs_url,
                )
                if federation.is_over():
                    raise Misconfigured(
                        f"the federation at {address} is over: no round will be opened"
                    )
                rounds = federation.terms().seats.rounds
                left = rounds - federation.round_count()
                finding.text = f"a federation with {left} of {rounds} rounds to come"
            yield finding

        # 4. The store, and what the chain says is in it.
        yield from self._store_findings()

    def _store_findings(self) -> Iterator[Finding]:
        """Check the store, read the spec, and say what is announced."""
        answers = self.answers
        # 1. A bucket is only opened here: the third check writes to it.
        sources = None
        with looking("ipfs" if answers.store.bucket is None else "bucket") as finding:
            sources = answers.store.open(answers.ipfs_url)
            own = sources.own
            finding.text = f"peer {own.id()}" if isinstance(own, ContentStore) else sources.address
        yield finding

        # 2. The spec, whose digest is in the contract: from the own store, or who announced.
        if self.federation is not None and sources is not None:
            with looking("spec") as finding:
                digest = self.federation.terms().identity.spec_digest
                now = self.federation.now()
                sources.learn(read_announcements(now), now.round_count())
                self.spec = Spec.parse(sources.get_block(digest))
                layers, size = len(self.spec.layers), self.spec.total_bytes(self.spec.update_kind)
                finding.text = f"{layers} layers, {size:,} bytes per update"
            yield finding

        # 3. That the store takes an update and gives it back, and where the chain will say it is.
        if self.federation is not None and self.spec is not None and sources is not None:
            with looking("store") as finding:
                size = self.spec.total_bytes(self.uploads or self.spec.update_kind)
                seconds = prove_store(sources, size, answers.store.reader())
                read = answers.store.public or sources.address
                finding.text = f"{size:,} bytes written and read back from {read}: {seconds:.1f} s"
            yield finding
            if (reader := answers.store.reader()) is not None:
                with looking("gateway") as finding:
                    prove_gateway(reader, sources, founding_blocks(self.federation, self.spec))
                    finding.text = f"{answers.store.public} shows what this store holds, no more"
                yield finding
        with looking("announces") as finding:
            finding.text = self._announces()
        yield finding

    def _announces(self) -> str:
        """Return what will stand on chain; Misconfigured where that is not enough."""
        places = ", ".join(place.line for place in self.answers.store.places)
        if not places:
            return "nothing: others need to know this store already"
        return f"{places}: stands on chain for ever, beside this wallet"


def founding_blocks(federation: Federation, spec: Spec) -> list[Digest]:
    """Return blocks that the sponsor has, and each aggregator."""
    model = federation.terms().identity.initial_model_manifest
    return [model, parse_digest(spec.evaluation_digest)]


def check_gas(federation: Federation, account: Address, gas: int) -> str:
    """Return what `account` holds in ether; Misconfigured when it cannot pay for `gas`."""
    w3 = federation.w3
    with plain_errors():
        balance = int(w3.eth.get_balance(w3.to_checksum_address(account)))
        price = int(w3.eth.gas_price)
    needed = gas * price
    shown = f"holds {balance / 10**18:.6f} ether, a first round costs about"
    if balance < needed:
        raise Misconfigured(f"{account} {shown} {needed / 10**18:.6f}: send it some for gas")
    return f"{shown} {needed / 10**18:.6f}"


def check_tokens(federation: Federation, account: Address, amount: int, purpose: str) -> str:
    """Return what `account` holds in the federation's tokens; Misconfigured for less than `amount`.

    `amount` is in token units; `purpose` is what it is for, as in "the bond is".
    """
    held = federation.token.balance_of(account)
    token = federation.terms().money.token
    shown = f"holds {format_tokens(held)} of token {token}, {purpose} {format_tokens(amount)}"
    if held < amount:
        raise Misconfigured(f"{account} {shown}: get {format_tokens(amount - held)} more")
    return shown
