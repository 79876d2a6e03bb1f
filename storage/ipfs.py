"""The content store: puts blocks into IPFS, and returns what was asked for or an error.

Every block is hashed on arrival, and no switch skips it: a daemon can withhold content but cannot
change it. Outgoing blocks are hashed here as well, and the daemon's CIDs are compared with ours.

    store = ContentStore("http://127.0.0.1:5001")
    digests = store.put_blocks([b"one", b"two"])
    store.get_block(digests[0], size=3)

Content is raw blocks and nothing else (docs/protocol.md §5). A file under one CID would be a DAG,
of which a daemon fetches the whole before it shows that it is larger than expected.
"""

import io
import json
import math
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Final
from urllib.parse import parse_qsl, urlsplit

import ipfshttpclient
import requests
from ipfshttpclient.client import Client
from requests.adapters import BaseAdapter

from profiling.traffic import TRAFFIC
from protocol.canonical import sha256 as compute_sha256
from protocol.cid import raw_cid
from protocol.errors import Misconfigured, Unavailable, WrongBytes
from protocol.types import Digest
from storage.blocks import (
    MAX_BLOCK_BYTES,
    SLOWEST_BYTES_PER_S,
    batches,
    join_block,
    time_limit,
)
from storage.http import TimeLimit, one_line, shorten
from storage.rpc import ApiAddress, Refused, Rpc, Upload

_ANSWER_BYTES: Final = 2048  # of a command that moves no block
_CLIENT_BYTES: Final = 1 << 20  # of one with a list: addresses, protocols, pins

_BATCH_BLOCKS: Final = 120  # as many CIDs as fit the request line of any server
_TRIES: Final = 4  # to pin what the daemon's garbage collector takes between put and pin

# `format` and `version` say the same to daemons that do not know `cid-codec`.
_PUT_OPTIONS: Final = (
    ("cid-codec", "raw"),
    ("format", "raw"),
    ("mhtype", "sha2-256"),
    ("pin", "false"),
    ("version", "1"),
)

# ipfshttpclient passes urllib3 a deprecated argument, which its users cannot change.
warnings.filterwarnings("ignore", "The 'strict' parameter", FutureWarning)


class ContentStore:
    """IPFS through the RPC of one daemon; any number of threads may share it.

    `api_url` is http://HOST:PORT, https://HOST:PORT or a multiaddr. `timeout_s` bounds connecting
    and every silence; moving blocks may in addition take their time at `slowest_bytes_per_s`.
    Raises Misconfigured for an invalid address. Every method raises Unavailable, with one line that
    names the request and the daemon, when the daemon does not comply. No failure is tried again.
    """

    def __init__(
        self,
        api_url: str,
        timeout_s: float = 30.0,
        slowest_bytes_per_s: int = SLOWEST_BYTES_PER_S,
    ) -> None:
        self._api = ApiAddress.parse(api_url)
        self._timeout_s = timeout_s
        self._slowest_bytes_per_s = slowest_bytes_per_s
        self._rpc = Rpc(self._api)
        # Without a session each call has one of its own, which is what makes the client safe to
        # share between threads. `connect()` would refuse daemons newer than 0.9.
        try:
            self._client = Client(self._api.multiaddr)
        except ipfshttpclient.exceptions.AddressError as error:
            raise Misconfigured(f"{api_url!r} is not the address of an IPFS API") from error
        # The client has no public way to say how its requests travel.
        adapters = {"": _OverRpc(self._rpc, self._limit(_ANSWER_BYTES))}
        self._client._client._session_props |= {"trust_env": False, "adapters": adapters}

    @property
    def api_url(self) -> str:
        """The daemon's address, as http://127.0.0.1:5001."""
        return self._api.url

    @property
    def address(self) -> str:
        """The same, as every store has it."""
        return self._api.url

    def put_block(self, data: bytes) -> Digest:
        """Store and pin one block; return its SHA-256. Raises like `put_blocks`."""
        return self.put_blocks([data])[0]

    def put_blocks(self, blocks: Iterable[bytes], *, pinned: bool = True) -> list[Digest]:
        """Store and pin each of `blocks`; return their SHA-256, from which their CIDs follow.

        Many blocks go in one request; at most 16 MiB of them are in memory at a time. Raises
        Misconfigured for a block of more than `MAX_BLOCK_BYTES`, WrongBytes if the daemon gives a
        block another CID.
        """
        digests = []
        for batch in batches(blocks, _BATCH_BLOCKS):
            named = [(compute_sha256(block), block) for block in batch]
            digests += [digest for digest, _ in named]
            if pinned:
                self._keep(dict(named))
            else:
                self._send(dict(named))
        return digests

    def get_block(
        self, digest: Digest, size: int | None = None, deadline: float = math.inf
    ) -> bytes:
        """Return a block that the daemon has or finds at its peers (storage/blocks.py)."""
        limit = self._limit(size or MAX_BLOCK_BYTES, deadline)
        pieces = self._rpc.stream("block/get", [("arg", raw_cid(digest))], limit)
        return join_block(pieces, digest, size, f"the IPFS daemon at {self.api_url}")

    def has(self, digest: Digest) -> bool:
        """Whether the daemon itself has this block; no peer is asked."""
        query = [("arg", raw_cid(digest)), ("offline", "true")]
        try:
            self._rpc.ask("block/stat", query, self._limit(_ANSWER_BYTES))
        except Refused as error:
            if not _is_missing(error):
                raise
            return False
        return True

    def remove_blocks(self, digests: Collection[Digest], *, also_pinned: bool = True) -> None:
        """Unpin these blocks and remove them; those that are not there need nothing.

        What somebody else pinned together with other content stays, and without `also_pinned` all
        that is pinned: what is left are copies of blocks that were only fetched.
        """
        cids = iter(dict.fromkeys(map(raw_cid, digests)))
        while some := list(islice(cids, _BATCH_BLOCKS)):
            if also_pinned:
                self._unpin(some)
            query = [("force", "true"), *(("arg", cid) for cid in some)]
            for answer in self._rpc.ask("block/rm", query, self._limit(_ANSWER_BYTES)):
                fault = str(answer.get("Error") or "")
                if fault and not fault.startswith("pinned"):
                    raise Unavailable(
                        f"IPFS daemon at {self.api_url}: block/rm: {_plain(fault)}",
                        service="storage",
                    )

    def keep_peer(self, addresses: Sequence[str]) -> None:
        """Stay connected to a peer, given by multiaddrs that end with its ID.

        The daemon connects by itself, again and again, until it is restarted.
        """
        # As an argument each: given together, a daemon takes all or none.
        query = [("arg", address) for address in addresses]
        self._rpc.ask("swarm/peering/add", query, self._limit(_ANSWER_BYTES))

    def connect_peer(self, addresses: Sequence[str]) -> None:
        """Return once the daemon is connected to a peer, which has shown that the ID is its own.

        Multiaddrs as for `keep_peer`; with the ID alone it must be connected already.
        """
        query = [("arg", address) for address in addresses]
        self._rpc.ask("swarm/connect", query, self._limit(_ANSWER_BYTES))

    def drop_peer(self, peer_id: str) -> None:
        """Stay connected to a peer no longer."""
        self._rpc.ask("swarm/peering/rm", [("arg", peer_id)], self._limit(_ANSWER_BYTES))

    def id(self) -> str:
        """Return the daemon's peer ID, a quick check that it answers."""
        with self._daemon_errors("id"):
            return str(self._client.id()["ID"])

    def version(self) -> str:
        """Return the daemon's version."""
        with self._daemon_errors("version"):
            return str(self._client.version()["Version"])

    def _keep(self, blocks: dict[Digest, bytes]) -> None:
        """Put blocks and pin them, so that all of them are there and stay."""
        missing = blocks
        for _ in range(_TRIES):
            # 1. Store them unpinned: with `pin` a daemon writes its pins to disk block by block.
            if missing:
                self._send(missing)
            # 2. Pin them, all in one request.
            are_pinned = self._pin([raw_cid(digest) for digest in blocks])
            # 3. A garbage collection between the two takes what was not pinned yet: once more.
            missing = {digest: data for digest, data in blocks.items() if not self.has(digest)}
            if are_pinned and not missing:
                return
        raise Unavailable(
            f"IPFS daemon at {self.api_url}: removes blocks as soon as it has stored them",
            service="storage",
        )

    def _send(self, blocks: dict[Digest, bytes]) -> None:
        limit = self._limit(sum(map(len, blocks.values())))
        answers = self._rpc.ask("block/put", _PUT_OPTIONS, limit, Upload(list(blocks.values())))
        names = [str(answer.get("Key")) for answer in answers]
        if len(names) < len(blocks):  # a daemon may answer before it has read everything
            raise Unavailable(
                f"IPFS daemon at {self.api_url}: block/put: {len(names)} of {len(blocks)} stored",
                service="storage",
            )
        for digest, name in zip(blocks, names, strict=False):
            if name != raw_cid(digest):
                raise WrongBytes(
                    f"IPFS daemon at {self.api_url} calls {raw_cid(digest)} {_plain(name)!r}"
                )
        TRAFFIC.add(sent=sum(map(len, blocks.values())))

    def _pin(self, cids: Sequence[str]) -> bool:
        """Pin blocks that the daemon has; return False when it does not have all of them."""
        try:
            # Offline: a block that is gone must not be looked for among the peers.
            with self._daemon_errors(f"pin/add {cids[0]}"):
                self._client.pin.add(*cids, recursive=False, offline=True)
        except Refused as error:
            if len(cids) > 1:  # the daemon stops at the first one: try each by itself
                return all(self._pin([cid]) for cid in cids)
            if _is_missing(error):
                return False
            if "already pinned" not in str(error):  # as a DAG, by the operator
                raise
        return True

    def _unpin(self, cids: Sequence[str]) -> None:
        try:
            with self._daemon_errors(f"pin/rm {cids[0]}"):
                self._client.pin.rm(*cids, recursive=False)
        except Refused as error:
            if len(cids) > 1:  # as in `_pin`
                for cid in cids:
                    self._unpin([cid])
            elif "pinned" not in str(error):  # not pinned, or not by a content store
                raise

    def _limit(self, size: int, deadline: float = math.inf) -> TimeLimit:
        return time_limit(size, self._timeout_s, self._slowest_bytes_per_s, deadline)

    @contextmanager
    def _daemon_errors(self, what: str) -> Iterator[None]:
        """Turn any error of ipfshttpclient's own into Unavailable."""
        try:
            yield
        except (ipfshttpclient.exceptions.Error, AssertionError, LookupError) as error:
            # The client asserts on answers it does not expect.
            raise Unavailable(
                f"IPFS daemon at {self.api_url}: {what}: {_plain(error)}", service="storage"
            ) from error


class _OverRpc(BaseAdapter):
    """Carries ipfshttpclient's requests over `Rpc`.

    By itself the client follows redirects, unpacks what is compressed, and reads whatever a daemon
    sends for as long as it drips.
    """

    def __init__(self, rpc: Rpc, limit: TimeLimit) -> None:
        super().__init__()
        self._rpc, self._limit = rpc, limit

    def send(
        self, request: requests.PreparedRequest, *_: object, **__: object
    ) -> requests.Response:
        """Return the answer, read whole; raises as `Rpc.ask` does."""
        url = urlsplit(str(request.url))
        command, query = url.path.removeprefix("/api/v0/"), parse_qsl(url.query)
        objects = self._rpc.ask(command, query, self._limit, most=_CLIENT_BYTES)
        response = requests.Response()
        response.status_code = 200
        response.raw = io.BytesIO(b"".join(json.dumps(each).encode() + b"\n" for each in objects))
        return response

    def close(self) -> None:
        """Keep the connections: `Rpc` shares them."""


def _plain(text: object) -> str:
    return shorten(one_line(text if isinstance(text, Exception) else str(text)))


def _is_missing(error: Refused) -> bool:
    return "not found" in str(error) or "could not find" in str(error)
