"""The commands of the Kubo RPC that Commonweight and its tests use, on a folder of raw blocks.

Each takes the repository and the request and returns the reply. Behaviour and messages follow
https://docs.ipfs.tech/reference/kubo/rpc/. An option that would change the result and is not
supported here is refused rather than ignored.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from devnet.ipfs.blocks import BlockRepo, PinKind
from devnet.ipfs.uploads import Part
from protocol.cid import digest_of_raw_cid, raw_cid
from protocol.errors import CommonweightError, Misconfigured
from protocol.types import Digest

MAX_BLOCK_BYTES: Final = 2 * 1024 * 1024  # what Kubo lets pass without --allow-big-block
_AGENT: Final = "commonweight-dev-ipfs/0.1.0"
_VERSION: Final = "0.8.0-commonweight-dev"  # inside the range ipfshttpclient.connect() accepts
_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


class CommandError(Exception):
    """A command failed; `status` is 500, or 400 for a malformed request."""

    def __init__(self, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Request:
    """The query of a command, and its uploaded files."""

    query: dict[str, list[str]]
    parts: Iterator[Part]

    def args(self) -> list[Digest]:
        """Return the blocks whose CIDs are given as `arg`, plain or as /ipfs/CID."""
        try:
            return [
                digest_of_raw_cid(text.removeprefix("/ipfs/")) for text in self.query.get("arg", [])
            ]
        except Misconfigured as error:
            raise CommandError(f"invalid cid: {error}") from None

    def required_args(self) -> list[Digest]:
        """Return the blocks given as `arg`: at least one."""
        args = self.args()
        if not args:
            raise CommandError('argument "ipfs-path" is required', status=400)
        return args

    def text(self, name: str, default: str) -> str:
        """Return an option as it was sent, or `default`."""
        return self.query.get(name, [default])[0]

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a boolean option, in any spelling that Go's ParseBool accepts."""
        text = self.text(name, str(default))
        if text in ("1", "t", "T", "true", "TRUE", "True"):
            return True
        if text in ("0", "f", "F", "false", "FALSE", "False"):
            return False
        raise CommandError(f'could not convert value {text!r} to type "bool" (for "{name}")', 400)

    def refuse(self, **unsupported: bool) -> None:
        """Raise CommandError if any of the named options is set."""
        for name, is_set in unsupported.items():
            if is_set:
                option = name.replace("_", "-")
                raise CommandError(f"option {option} is not supported by the dev IPFS daemon")


@dataclass(frozen=True)
class Reply:
    """A reply: JSON objects, one per line, or the bytes of a block."""

    objects: Sequence[dict[str, Any]] = ()
    content: bytes | None = None

    def body(self) -> bytes:
        """Return the JSON objects in Kubo's form."""
        return b"".join(json.dumps(one).encode() + b"\n" for one in self.objects)


def block_put(repo: BlockRepo, request: Request) -> Reply:
    """Store each uploaded part as a raw block, pinned if `pin`."""
    codec, legacy = request.text("cid-codec", "raw"), request.text("format", "raw")
    request.refuse(
        mhtype=request.text("mhtype", "sha2-256") != "sha2-256",
        cid_codec=codec != "raw",
        format=legacy != "raw",
    )
    answers = []
    for part in request.parts:
        data = bytearray()
        while piece := part.read(MAX_BLOCK_BYTES):
            data += piece
            if len(data) > MAX_BLOCK_BYTES:  # stop reading: the rest may be of any length
                raise CommandError(f"produced block is over {MAX_BLOCK_BYTES} bytes")
        digest = repo.put(bytes(data))
        if request.flag("pin"):
            repo.pin(digest, "recursive")
        answers.append({"Key": raw_cid(digest), "Size": len(data)})
    if not answers:
        raise CommandError("expected a file argument")
    return Reply(answers)


def block_get(repo: BlockRepo, request: Request) -> Reply:
    """Send one block's bytes."""
    return Reply(content=repo.get(request.required_args()[0]))


def block_stat(repo: BlockRepo, request: Request) -> Reply:
    """Return the size of a block."""
    digest = request.required_args()[0]
    return Reply([{"Key": raw_cid(digest), "Size": repo.size(digest)}])


def block_rm(repo: BlockRepo, request: Request) -> Reply:
    """Remove blocks that are not pinned; one that is missing is an error unless `force`."""
    is_forced, answers = request.flag("force"), []
    for digest in request.required_args():
        try:
            if repo.remove(digest):
                answers.append({"Hash": raw_cid(digest)})
            elif not is_forced:
                error = f"ipld: could not find {raw_cid(digest)}"
                answers.append({"Hash": raw_cid(digest), "Error": error})
        except CommonweightError as pinned:
            answers.append({"Hash": raw_cid(digest), "Error": str(pinned)})
    return Reply(answers)


def pin_add(repo: BlockRepo, request: Request) -> Reply:
    """Pin blocks that are here: as `recursive` (the default) or as direct pins."""
    kind: PinKind = "recursive" if request.flag("recursive", default=True) else "direct"
    digests = request.required_args()
    for digest in digests:
        repo.pin(digest, kind)
    return Reply([{"Pins": [raw_cid(digest) for digest in digests]}])


def pin_rm(repo: BlockRepo, request: Request) -> Reply:
    """Remove pins."""
    digests = request.required_args()
    for digest in digests:
        repo.unpin(digest, recursive=request.flag("recursive", default=True))
    return Reply([{"Pins": [raw_cid(digest) for digest in digests]}])


def pin_ls(repo: BlockRepo, request: Request) -> Reply:
    """List pins of one `type` or of all, one per line if `stream`; only those of `arg` if given."""
    kind = request.text("type", "all")
    if kind not in ("all", "direct", "indirect", "recursive"):
        raise CommandError(
            f"invalid type '{kind}', must be one of {{direct, indirect, recursive, all}}"
        )
    wanted = request.args()
    own = {each: how for each in wanted if (how := repo.pin_kind(each))} if wanted else repo.pins()
    # None is "indirect": a raw block has nothing below it.
    found = {raw_cid(each): how for each, how in own.items() if kind in ("all", how)}
    for cid in map(raw_cid, wanted):
        if cid not in found:
            raise CommandError(f"path '{cid}' is not pinned")
    if request.flag("stream"):
        return Reply([{"Cid": cid, "Type": how} for cid, how in found.items()])
    return Reply([{"Keys": {cid: {"Type": how, "Name": ""} for cid, how in found.items()}}])


def identify(repo: BlockRepo, request: Request) -> Reply:
    """Return the peer ID; this daemon has no peers and no addresses."""
    key = b"\x08\x01\x12\x20" + repo.peer_key()  # libp2p's form of an Ed25519 public key
    peer = _base58(b"\x00\x24" + key)  # under the identity multihash
    return Reply(
        [
            {
                "ID": peer,
                "PublicKey": b64encode(key).decode(),
                "Addresses": [],
                "AgentVersion": _AGENT,
                "ProtocolVersion": "ipfs/0.1.0",
                "Protocols": [],
            }
        ]
    )


def _base58(data: bytes) -> str:
    """Return bytes in Bitcoin's base 58, the spelling of peer IDs."""
    number = int.from_bytes(data, "big")
    letters = ""
    while number:
        number, index = divmod(number, 58)
        letters = _BASE58[index] + letters
    # A number has no leading zeros: base58 spells each zero byte in front as one "1".
    zeros = len(data) - len(data.lstrip(b"\0"))
    return _BASE58[0] * zeros + letters


def version(repo: BlockRepo, request: Request) -> Reply:
    """Return the version."""
    return Reply([{"Version": _VERSION, "Commit": "", "Repo": "15", "System": "", "Golang": ""}])


def repo_stat(repo: BlockRepo, request: Request) -> Reply:
    """Return the number of blocks and their total size."""
    blocks, stored_bytes = repo.count()
    return Reply(
        [
            {
                "RepoSize": stored_bytes,
                "StorageMax": 2**63 - 1,
                "NumObjects": blocks,
                "RepoPath": str(repo.folder),
                "Version": "fs-repo@15",
            }
        ]
    )


COMMANDS: Final[dict[str, Callable[[BlockRepo, Request], Reply]]] = {
    "block/get": block_get,
    "block/put": block_put,
    "block/rm": block_rm,
    "block/stat": block_stat,
    "id": identify,
    "pin/add": pin_add,
    "pin/ls": pin_ls,
    "pin/rm": pin_rm,
    "repo/stat": repo_stat,
    "version": version,
}
