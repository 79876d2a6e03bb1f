"""The commands of the Kubo RPC that Commonweight and its tests use, on a folder of blocks.

Each takes the repository and the request and returns the reply. Behaviour and messages follow
https://docs.ipfs.tech/reference/kubo/rpc/. An option that would change the result and is not
supported here is refused rather than ignored.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

from devnet.ipfs.blocks import BlockRepo, PinKind
from devnet.ipfs.uploads import Part
from protocol.cid import DAG_PB, RAW
from storage.cid import Cid, to_base58
from storage.dag_pb import Link
from storage.unixfs import (
    CHUNK_BYTES,
    MAX_LINKS,
    ImportOptions,
    file_bytes,
    import_file,
    read_file,
)

MAX_BLOCK_BYTES: Final = 2 * 1024 * 1024  # what Kubo lets pass without --allow-big-block
_MAX_CHUNK_BYTES: Final = 2 * 1024 * 1024 - 256  # leaves room for dag-pb framing
_AGENT: Final = "commonweight-dev-ipfs/0.1.0"
_VERSION: Final = "0.8.0-commonweight-dev"  # inside the range ipfshttpclient.connect() accepts


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

    def args(self) -> list[Cid]:
        """Return the CIDs given as `arg`, plain or as /ipfs/CID."""
        return [Cid.parse(text.removeprefix("/ipfs/")) for text in self.query.get("arg", [])]

    def required_args(self) -> list[Cid]:
        """Return the CIDs given as `arg`: at least one."""
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

    def number(self, name: str) -> int | None:
        """Return an option that is a whole number of at least zero, or None if it is missing."""
        text = self.text(name, "")
        if not text:
            return None
        # Fewer than 20 digits: an int64 as in Go, and nothing that takes long to parse.
        if text.isascii() and text.isdigit() and len(text) < 20:
            return int(text)
        raise CommandError(f'could not convert value {text!r} to type "int" (for "{name}")', 400)

    def refuse(self, **unsupported: bool) -> None:
        """Raise CommandError if any of the named options is set."""
        for name, is_set in unsupported.items():
            if is_set:
                option = name.replace("_", "-")
                raise CommandError(f"option {option} is not supported by the dev IPFS daemon")


@dataclass(frozen=True)
class Reply:
    """A reply: JSON objects, one per line, or `content_bytes` bytes of `content`."""

    objects: Sequence[dict[str, Any]] = ()
    content: Iterator[bytes] = field(default_factory=lambda: iter(()))
    content_bytes: int | None = None

    def body(self) -> bytes:
        """Return the JSON objects in Kubo's form."""
        return b"".join(json.dumps(one).encode() + b"\n" for one in self.objects)


def add(repo: BlockRepo, request: Request) -> Reply:
    """Import each uploaded file: pinned unless `pin=false`, only hashed with `only-hash`."""
    options = _import_options(request)
    only_hash, pin = request.flag("only-hash"), request.flag("pin", default=True)
    answers = []
    for part in request.parts:
        if part.content_type == "application/x-directory":
            raise CommandError("directories are not supported by the dev IPFS daemon")
        # Stored block by block as it arrives: an upload may be larger than memory.
        blocks = import_file(part, options)
        while True:
            try:
                block = next(blocks)
            except StopIteration as end:
                root: Link = end.value
                break
            if not only_hash:
                repo.put(block.cid, block.data)
        if pin and not only_hash:
            repo.pin(root.cid, "recursive")
        cid = str(root.cid)
        answers.append({"Name": part.name or cid, "Hash": cid, "Size": str(root.total_bytes)})
    if not answers:
        raise CommandError("expected a file argument")
    return Reply(answers)


def _import_options(request: Request) -> ImportOptions:
    request.refuse(
        wrap_with_directory=request.flag("wrap-with-directory"),
        trickle=request.flag("trickle"),
        nocopy=request.flag("nocopy"),
        inline=request.flag("inline"),
        hash=request.text("hash", "sha2-256") != "sha2-256",
        max_file_links=(request.number("max-file-links") or MAX_LINKS) != MAX_LINKS,
    )
    version = request.number("cid-version") or 0
    if version not in (0, 1):
        raise CommandError(f"unknown CID version {version}")
    # Kubo's rule: raw leaves go with version 1 unless the request says otherwise.
    raw_leaves = request.flag("raw-leaves", default=version == 1)
    chunker = request.text("chunker", f"size-{CHUNK_BYTES}")
    size = chunker.removeprefix("size-")
    if chunker == size or not (size.isascii() and size.isdigit()):
        raise CommandError(f"chunker {chunker!r} is not supported: only size-N is")
    if not 0 < int(size) <= _MAX_CHUNK_BYTES:
        raise CommandError(f"chunker {chunker!r}: 1 to {_MAX_CHUNK_BYTES} bytes were expected")
    return ImportOptions(version, raw_leaves, int(size))


def cat(repo: BlockRepo, request: Request) -> Reply:
    """Send `length` bytes of a file from `offset` on."""
    offset, length = request.number("offset") or 0, request.number("length")
    cids = request.required_args()
    if len(cids) > 1:
        raise CommandError("the dev IPFS daemon reads one file at a time")
    size = max(file_bytes(cids[0], repo.get) - offset, 0)
    wanted = size if length is None else min(size, length)
    content = read_file(cids[0], repo.get, offset, wanted)
    # The first block is read before the reply begins, so that a missing one is a proper error.
    first = next(content, b"")
    return Reply(content=chain((first,), content), content_bytes=wanted)


def block_put(repo: BlockRepo, request: Request) -> Reply:
    """Store each uploaded block under `cid-codec` (or the old `format`): raw or dag-pb."""
    request.refuse(mhtype=request.text("mhtype", "sha2-256") != "sha2-256")
    version, codec = _block_format(request)
    answers = []
    for part in request.parts:
        data = bytearray()
        while piece := part.read(MAX_BLOCK_BYTES):
            data += piece
            if len(data) > MAX_BLOCK_BYTES:  # stop reading: the rest may be of any length
                raise CommandError(f"produced block is over {MAX_BLOCK_BYTES} bytes")
        block = bytes(data)
        cid = Cid.of_block(block, version=version, codec=codec)
        repo.put(cid, block)
        if request.flag("pin"):
            repo.pin(cid, "recursive")
        answers.append({"Key": str(cid), "Size": len(data)})
    if not answers:
        raise CommandError("expected a file argument")
    return Reply(answers)


def _block_format(request: Request) -> tuple[int, int]:
    codec, legacy = request.text("cid-codec", "raw"), request.text("format", "")
    if legacy and codec != "raw":
        raise CommandError('unable to use "format" (deprecated) and a custom "cid-codec" together')
    if legacy == "v0":
        return 0, DAG_PB
    known = {"raw": RAW, "dag-pb": DAG_PB, "protobuf": DAG_PB}
    if (legacy or codec) not in known:
        raise CommandError(f"codec {legacy or codec!r} is not supported: raw and dag-pb are")
    return 1, known[legacy or codec]


def block_get(repo: BlockRepo, request: Request) -> Reply:
    """Send one block's bytes."""
    data = repo.get(request.required_args()[0])
    return Reply(content=iter((data,)), content_bytes=len(data))


def block_stat(repo: BlockRepo, request: Request) -> Reply:
    """Return the size of a block."""
    cid = request.required_args()[0]
    return Reply([{"Key": str(cid), "Size": len(repo.get(cid))}])


def pin_add(repo: BlockRepo, request: Request) -> Reply:
    """Pin blocks that are here, with everything below them if `recursive` (the default)."""
    cids = request.required_args()
    kind: PinKind = "recursive" if request.flag("recursive", default=True) else "direct"
    for cid in cids:
        repo.pin(cid, kind)
    return Reply([{"Pins": [str(cid) for cid in cids]}])


def pin_rm(repo: BlockRepo, request: Request) -> Reply:
    """Remove pins."""
    cids = request.required_args()
    for cid in cids:
        repo.unpin(cid)
    return Reply([{"Pins": [str(cid) for cid in cids]}])


def pin_ls(repo: BlockRepo, request: Request) -> Reply:
    """List pins of one `type` or of all, one per line if `stream`; only those of `arg` if given."""
    kind = request.text("type", "all")
    if kind not in ("all", "direct", "indirect", "recursive"):
        raise CommandError(
            f"invalid type '{kind}', must be one of {{direct, indirect, recursive, all}}"
        )
    wanted = request.args()
    own = {cid: how for cid in wanted if (how := repo.pin_kind(cid))} if wanted else repo.pins()
    below: set[Cid] = set()
    # Which blocks are held indirectly is only known after reading every pinned tree: a last resort.
    if kind in ("all", "indirect") and (not wanted or len(own) < len(set(wanted))):
        roots = [cid for cid, how in repo.pins().items() if how == "recursive"]
        below = {cid for root in roots for cid in repo.descendants(root)}
    listed = {cid: "indirect" for cid in sorted(below) if not wanted or cid in wanted}
    # A block's own pin after, and so instead of, an indirect one.
    pairs = (*listed.items(), *own.items())
    found = {cid: how for cid, how in pairs if kind in ("all", how)}
    for cid in wanted:
        if cid not in found:
            raise CommandError(f"path '{cid}' is not pinned")
    if request.flag("stream"):
        return Reply([{"Cid": str(cid), "Type": how} for cid, how in found.items()])
    return Reply([{"Keys": {str(cid): {"Type": how, "Name": ""} for cid, how in found.items()}}])


def identify(repo: BlockRepo, request: Request) -> Reply:
    """Return the peer ID; this daemon has no peers and no addresses."""
    key = b"\x08\x01\x12\x20" + repo.peer_key()  # libp2p's form of an Ed25519 public key
    peer = to_base58(b"\x00\x24" + key)  # under the identity multihash
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
    "add": add,
    "block/get": block_get,
    "block/put": block_put,
    "block/stat": block_stat,
    "cat": cat,
    "id": identify,
    "pin/add": pin_add,
    "pin/ls": pin_ls,
    "pin/rm": pin_rm,
    "repo/stat": repo_stat,
    "version": version,
}
