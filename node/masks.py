"""A participant's secrets of a masked round, and what it does with them (docs/protocol.md §13).

    FOLDER/secrets.json     the round's private key and the seed of the own mask; nobody else's
    FOLDER/masked/          the masked layer files and the bundle
    FOLDER/masked.json      what was made of them, and with whom: from then on only this is revealed
    FOLDER/account          what was said of the masks after the set was refused (node/accounts.py)
    FOLDER/opened.json      the set for which secrets were opened: never for another one

Each is on disk before what depends on it is sent. The secrets go once the round is over for good.
"""

import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chain.records import Secrets
from protocol.bundle import Bundle, deal
from protocol.encoding import LEAF_VALUES, value_type
from protocol.errors import Misconfigured, Rejected
from protocol.masking import MASKED_VALUE, SEED_BYTES, Mask, mask, masks_of
from protocol.pair_keys import MaskedRound, pair_seed, public_key, share_key
from protocol.reveal import Reveal
from protocol.shares import default_threshold
from protocol.sketches import pack_sketch
from protocol.types import Address, parse_digest
from protocol.verdict import compute_weight
from rounds.context import RoundContext
from rounds.sketched import sketch_folder
from storage.digests import examine
from storage.files import read_json, sync_files, write_atomically, write_json
from storage.layers import LayerFolder, build_manifest

_BLOCK = 1 << 18  # values masked at once
_SEAL_NOT_FINAL = "the seal is not final yet"
_DRAW_NOT_FINAL = "the sketches' vectors are not final yet"
NOT_FINAL = frozenset({_SEAL_NOT_FINAL, _DRAW_NOT_FINAL})
"""What `Masks.refusal` says as long as another block may change it."""


@dataclass(frozen=True)
class Trust:
    """With whom a participant's owner is ready to be summed; see node/settings.py."""

    min_set: int = 0
    trusted: tuple[Address, ...] = ()
    min_trusted: int = 0


@dataclass(frozen=True)
class MaskedUpdate:
    """What was masked, in hex, and for which members: all that committed, ascending."""

    root: str
    manifest: str
    secrets: str
    members: tuple[Address, ...]


class Masks:
    """The secrets of one participant in one round, in the round's folder."""

    def __init__(self, folder: Path, address: Address) -> None:
        self.folder, self.address = folder, address
        self.files = LayerFolder(folder / "masked", "masked")

    # ------------------------------------------------------------------ commit

    def draw(self) -> bytes:
        """Draw the round's secrets, unless that was done before; return the public key."""
        if not self._secrets_path.exists():
            drawn = {
                "private_key": secrets.token_hex(SEED_BYTES),
                "own_seed": secrets.token_hex(SEED_BYTES),
            }
            write_json(self._secrets_path, drawn, mode=0o600)
        return self.public_key()

    def public_key(self) -> bytes:
        """Return the round's public key; Misconfigured when its secrets are not here."""
        return public_key(self._private_key)

    # ------------------------------------------------------------------ reveal

    def masked(self) -> MaskedUpdate | None:
        """Return what was masked for this round; None when nothing was."""
        path = self.folder / "masked.json"
        if not path.exists():
            return None
        fields = read_json(path)
        if not isinstance(fields, dict) or fields.keys() != MaskedUpdate.__annotations__.keys():
            raise Misconfigured(f"{path} is not what was written there")
        return MaskedUpdate(**{**fields, "members": tuple(fields["members"])})

    def mask(self, context: RoundContext, update: LayerFolder, examples: int) -> MaskedUpdate:
        """Mask the update for all that committed, once; return what was made, now or before.

        Masks for other members would be a second masked vector of the same update, and are never
        made. Raises Rejected(Check.BUNDLE) where a peer's key is none.
        """
        known = self.masked()
        if known is not None:
            return known
        members, spec = context.told.committers, context.spec
        seeds = self.pair_seeds(context)
        weight = compute_weight(examples, context.terms.seats.weight_cap)
        masks = masks_of(self.address, self._own_seed, seeds)
        self.files.path.mkdir(parents=True, exist_ok=True)
        first_leaf = 0
        for index in range(len(spec.layers)):
            leaves = _mask_layer(update, self.files, index, weight, masks, first_leaf)
            first_leaf += leaves
        sync_files(self.files.paths(spec))
        bundle = self._deal(context, seeds)
        write_atomically(self.files.bundle_path, bundle.to_bytes())
        (found,) = examine(spec, "masked", [self.files.paths(spec)])
        manifest = build_manifest(
            self.files, spec, context.subject("masked"), found.root, found.digests
        )
        made = MaskedUpdate(
            root=found.root.hex(),
            manifest=manifest.digest().hex(),
            secrets=bundle.secrets_digest().hex(),
            members=tuple(members),
        )
        write_json(self.folder / "masked.json", asdict(made), mode=0o600)
        return made

    def reveal(self, examples: int) -> Reveal:
        """Return what is revealed of the masked update; Misconfigured when nothing was masked."""
        made = self.masked()
        if made is None:
            raise Misconfigured(f"{self.folder} has no masked update")
        root, manifest = parse_digest(made.root), parse_digest(made.manifest)
        return Reveal(self.address, root, manifest, examples, parse_digest(made.secrets))

    # ------------------------------------------------------------------ unmask

    def refusal(self, context: RoundContext, finalized_block: int, trust: Trust) -> str:
        """Return why nothing may be opened for the set that was sealed; empty when it may.

        The rules in their order (docs/protocol.md §13). They hold for shares of others as well.
        """
        sealed = context.told.masking.sealed
        members = context.told.masking.members
        # 1. No reorganisation can bring another set.
        drawn = context.told.masking.drawn
        if sealed is None or sealed.block_number > finalized_block:
            return _SEAL_NOT_FINAL
        if drawn is None or drawn.block_number > finalized_block:
            return _DRAW_NOT_FINAL
        # 2. Without us in the set nothing of ours is in the sum.
        if self.address not in members:
            return "this participant is not in the set"
        # 3. and 4. Enough others hide it, and enough of those its owner trusts.
        least = least_set_of(context, trust)
        if len(members) < least:
            return f"{len(members)} updates are in the set, {least} are asked for"
        trusted = len(set(members) & set(trust.trusted))
        if trusted < trust.min_trusted:
            return (
                f"{trusted} trusted participants are in the set, min_trusted is {trust.min_trusted}"
            )
        # 5. Two sums over different sets would subtract.
        opened = self._opened()
        if opened is not None and opened != members:
            return f"secrets were opened for another set of {len(opened)}"
        made = self.masked()
        if made is None or list(made.members) != context.told.committers:
            return "the update is masked for others than those that committed"
        return ""

    def open(self, context: RoundContext, examples: int) -> Secrets:
        """Return the secrets for the set that was sealed; it is noted that they are opened.

        `refusal` must have been empty.
        """
        told, bundle = context.told, self._bundle()
        opened = self.folder / "opened.json"
        if not opened.exists():
            write_json(opened, told.masking.members, mode=0o600)
        seeds = self.pair_seeds(context)
        return Secrets(
            self.reveal(examples),
            told.committers,
            bundle.commitments,
            (self._own_seed, *(seeds[who] for who in told.outside)),
        )

    def sketch(self, context: RoundContext, update: LayerFolder, examples: int) -> bytes:
        """Return the sketch of the update, as it is posted, once its vectors are drawn."""
        seed = context.told.masking.sketch_seed
        assert seed is not None, "the sketches' vectors are drawn before anything is opened"
        weight = compute_weight(examples, context.terms.seats.weight_cap)
        return pack_sketch([weight * value for value in sketch_folder(context, update, seed)])

    # ------------------------------------------------------------------ assist

    def shares_of(self, context: RoundContext, silent: Address, bundle: Bundle) -> list[bytes]:
        """Return our shares of a silent member's secrets: its own, and those with who is outside.

        Never of a seed that two members of the set have in common: it would open nothing that is
        needed, and both of their updates if the own seeds are known as well. Raises Rejected when
        its box holds no shares for us.
        """
        key = share_key(
            _about(context),
            self._private_key,
            self.address,
            silent,
            context.told.masking.keys[silent],
            dealer=silent,
        )
        shares = bundle.open_box(self.address, key)
        return [shares[0], *(shares[1 + bundle.peers.index(who)] for who in context.told.outside)]

    @property
    def has_secrets(self) -> bool:
        """Whether the round's secrets are on disk, and not erased yet."""
        return self._secrets_path.exists()

    def erase(self) -> None:
        """Remove every secret of the round; the rest is public, and goes with the round's files."""
        self._secrets_path.unlink(missing_ok=True)

    # ---------------------------------------------------------------- internal

    @property
    def _secrets_path(self) -> Path:
        return self.folder / "secrets.json"

    @property
    def _private_key(self) -> bytes:
        return bytes.fromhex(self._read_secrets()["private_key"])

    @property
    def _own_seed(self) -> bytes:
        return bytes.fromhex(self._read_secrets()["own_seed"])

    def _read_secrets(self) -> dict[str, Any]:
        fields = read_json(self._secrets_path)
        if not isinstance(fields, dict) or fields.keys() != {"private_key", "own_seed"}:
            raise Misconfigured(f"{self._secrets_path} is not what was written there")
        return fields

    def pair_seeds(self, context: RoundContext) -> dict[Address, bytes]:
        """Return the seed that this participant shares with each other who committed."""
        keys = context.told.masking.keys
        return {
            peer: pair_seed(_about(context), self._private_key, self.address, peer, keys[peer])
            for peer in context.told.committers
            if peer != self.address
        }

    def _deal(self, context: RoundContext, seeds: dict[Address, bytes]) -> Bundle:
        keys = context.told.masking.keys
        share_keys = {
            peer: share_key(
                _about(context), self._private_key, self.address, peer, keys[peer], self.address
            )
            for peer in seeds
        }
        threshold = default_threshold(len(seeds))
        return deal(self.address, self._own_seed, seeds, share_keys, threshold, os.urandom)

    def _bundle(self) -> Bundle:
        try:
            return Bundle.parse(self.files.bundle_path.read_bytes())
        except (OSError, Rejected) as error:
            raise Misconfigured(
                f"{self.files.bundle_path} is not what was written there"
            ) from error

    def _opened(self) -> list[Address] | None:
        path = self.folder / "opened.json"
        if not path.exists():
            return None
        members = read_json(path)
        if not isinstance(members, list):
            raise Misconfigured(f"{path} is not what was written there")
        return [Address(str(each)) for each in members]


def least_set_of(context: RoundContext, trust: Trust) -> int:
    """Return how many updates a sum has at least for its owner to be in it."""
    return max(trust.min_set, context.terms.rules.min_set)


def _about(context: RoundContext) -> MaskedRound:
    return MaskedRound(context.chain_id, context.address, context.round_id)


def _mask_layer(
    update: LayerFolder,
    target: LayerFolder,
    index: int,
    weight: int,
    masks: Sequence[Mask],
    first_leaf: int,
) -> int:
    """Write a masked layer file, not yet synced; return its number of leaves."""
    leaves = 0
    with target.layer_path(index).open("wb") as file:
        for values in _read_blocks(update.layer_path(index)):
            masked = mask(values, weight, masks, first_leaf + leaves)
            file.write(masked.astype(MASKED_VALUE).tobytes())
            leaves += values.size // LEAF_VALUES
    return leaves


def _read_blocks(path: Path) -> Iterator[np.ndarray[Any, np.dtype[np.int8]]]:
    with path.open("rb") as file:
        while raw := file.read(_BLOCK):
            yield np.frombuffer(raw, value_type("update"))
