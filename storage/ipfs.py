"""The content store: puts blocks and files into IPFS, and returns what was asked for or an error.

Every byte is hashed on arrival, and no switch skips it: a daemon can withhold content but cannot
change it. Outgoing content is hashed here as well, and the daemon's CID is compared with ours.

    store = ContentStore("http://127.0.0.1:5001")
    cid = store.add_file(Path("00000.layer"))
    store.fetch_file(cid, size, sha256, Path("copy.layer"))
"""

import hashlib
import io
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import ipfshttpclient
import requests
from ipfshttpclient.client import Client

from profiling.traffic import TRAFFIC
from protocol.canonical import sha256 as compute_sha256
from protocol.cid import parse_cid, raw_cid
from protocol.errors import Misconfigured, Unavailable, WrongBytes
from protocol.types import Digest
from storage.cid import Cid
from storage.dag_pb import NotAFile
from storage.download import ApiAddress, TimeLimit, post_stream
from storage.unixfs import CHUNK_BYTES, MAX_LINKS, DagBuilder, compute_cid, file_bytes, read_chunks

MAX_BLOCK_BYTES: Final = 1 << 20
"""The largest block that every IPFS peer passes on."""

SLOWEST_BYTES_PER_S: Final = 131_072
"""A file may take `timeout_s` plus its time at this rate: 100 MB 13 minutes, and not a day."""

# The DAG's layout is spelled out, since an operator may change the daemon's defaults.
_ADD_OPTIONS: Final = {
    "chunker": f"size-{CHUNK_BYTES}",
    "cid-version": "1",
    "hash": "sha2-256",
    "inline": "false",
    "max-file-links": str(MAX_LINKS),
    "pin": "true",
    "progress": "false",
    "raw-leaves": "true",
    "trickle": "false",
}
# `format` and `version` say the same to daemons that do not know `cid-codec`.
_PUT_OPTIONS: Final = {
    "cid-codec": "raw",
    "format": "raw",
    "mhtype": "sha2-256",
    "pin": "true",
    "version": "1",
}

# ipfshttpclient passes urllib3 a deprecated argument, which its users cannot change.
warnings.filterwarnings("ignore", "The 'strict' parameter", FutureWarning)


class Contradiction(WrongBytes):
    """A CID names content that does not have the size and SHA-256 stated beside it.

    Whoever stated them together is at fault: no daemon can serve both, and every reader finds the
    same. A plain WrongBytes is the daemon's fault, and another daemon may do better.
    """


class ContentStore:
    """IPFS through the RPC of one daemon; any number of threads may share it.

    `api_url` is http://HOST:PORT, https://HOST:PORT or a multiaddr. `timeout_s` bounds connecting
    and every silence; fetching a file may in addition take its time at `slowest_bytes_per_s`.
    Raises Misconfigured for an invalid address. Every method raises Unavailable, with one line that
    names the request and the daemon, when the daemon does not comply. Nothing is retried here.
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
        # Without a session each call has a connection of its own, which is what makes the client
        # safe to share between threads. `connect()` would refuse daemons newer than 0.9.
        try:
            self._client = Client(self._api.multiaddr, chunk_size=CHUNK_BYTES, timeout=timeout_s)
        except ipfshttpclient.exceptions.AddressError as error:
            raise Misconfigured(f"{api_url!r} is not the address of an IPFS API") from error

    @property
    def api_url(self) -> str:
        """The daemon's address, as http://127.0.0.1:5001."""
        return self._api.url

    def put_block(self, data: bytes) -> Digest:
        """Store and pin `data` as one raw block; return its SHA-256, from which its CID follows.

        Raises Misconfigured beyond `MAX_BLOCK_BYTES`, WrongBytes if the daemon's CID is another.
        """
        if len(data) > MAX_BLOCK_BYTES:
            raise Misconfigured(f"a block of {len(data)} bytes: at most {MAX_BLOCK_BYTES} fit one")
        digest = compute_sha256(data)
        cid = raw_cid(digest)
        with self._daemon_errors(f"block/put {cid}"):
            answer = self._client.block.put(io.BytesIO(data), opts=dict(_PUT_OPTIONS))["Key"]
        TRAFFIC.add(sent=len(data))
        self._check_name(answer, cid)
        return digest

    def get_block(self, digest: Digest, max_bytes: int = MAX_BLOCK_BYTES) -> bytes:
        """Return the raw block with this SHA-256.

        Raises WrongBytes when another block arrives, or more than `max_bytes`.
        """
        return self._get_verified(Cid.parse(raw_cid(digest)), max_bytes)

    def add_file(self, path: Path) -> str:
        """Store and pin the file at `path`; return its CID, as `compute_cid` gives it.

        Raises Misconfigured when it cannot be read, WrongBytes when the daemon's CID is another.
        """
        builder = DagBuilder()
        all_sent = False

        def chunks() -> Iterator[bytes]:
            nonlocal all_sent
            for chunk in read_chunks(file):
                builder.add_chunk(chunk)
                TRAFFIC.add(sent=len(chunk))
                yield chunk
            all_sent = True

        try:
            file = path.open("rb")
        except OSError as error:
            raise Misconfigured(f"cannot read {path}: {error.strerror}") from None
        # The content goes as a bare stream: given a file, ipfshttpclient tells the daemon its path.
        with file, self._daemon_errors(f"add {path.name}"):
            answer = self._client.add_bytes(chunks(), opts=dict(_ADD_OPTIONS))
        if not all_sent:  # a daemon may answer before it has read everything
            raise Unavailable(
                f"IPFS daemon at {self.api_url}: add {path.name}: cut it short", service="storage"
            )
        _, root = builder.finish()
        self._check_name(answer, str(root.cid))
        return str(root.cid)

    @staticmethod
    def compute_cid(stream: BinaryIO) -> str:
        """Return the CID that `add_file` gives to this content, without any daemon."""
        return compute_cid(stream)

    def fetch_file(self, cid: str, size: int, sha256: Digest, target: Path) -> None:
        """Write the file to `target`, which appears whole and verified or not at all.

        `size` in bytes and `sha256` are checked on arrival; the answer is cut off at the first byte
        too many, and after `timeout_s` + `size` / `slowest_bytes_per_s` seconds. Raises WrongBytes,
        or Contradiction where `cid` itself cannot be that content; Misconfigured for an unsupported
        `cid` or when `target` cannot be written.
        """
        parse_cid(cid)
        try:
            # Beside the target, so that the rename at the end is atomic.
            handle, part = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
            os.fchmod(handle, 0o644)
        except OSError as error:
            raise Misconfigured(f"cannot write {target}: {error.strerror}") from None
        try:
            with open(handle, "w+b") as file:
                received, found = self._receive(cid, size, file)
                if (received, found) != (size, sha256):
                    raise self._explain(cid, size, sha256, received, found, file)
            os.replace(part, target)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise

    def is_pinned(self, cid: str) -> bool:
        """Whether the daemon holds a pin of its own for this CID."""
        parse_cid(cid)
        try:
            with self._daemon_errors(f"pin/ls {cid}"):
                self._client.pin.ls(cid, type="recursive")
        except _NotPinned:
            return False
        return True

    def unpin(self, cid: str) -> None:
        """Remove the pin, if there is one, so that the daemon may forget the content."""
        parse_cid(cid)
        try:
            with self._daemon_errors(f"pin/rm {cid}"):
                self._client.pin.rm(cid)
        except _NotPinned:
            pass

    def id(self) -> str:
        """Return the daemon's peer ID, a quick check that it answers."""
        with self._daemon_errors("id"):
            return str(self._client.id()["ID"])

    def _receive(self, cid: str, size: int, file: BinaryIO) -> tuple[int, Digest]:
        """Write what arrives to `file`; return its length, at most `size` + 1, and its SHA-256."""
        hasher, received = hashlib.sha256(), 0
        limit = TimeLimit(self._timeout_s, self._timeout_s + size / self._slowest_bytes_per_s)
        query = {"arg": cid, "length": str(size + 1)}  # one byte more shows that there is more
        for data in post_stream(self._api, "cat", query, limit):
            TRAFFIC.add(received=len(data))
            piece = data[: size + 1 - received]
            received += len(piece)
            hasher.update(piece)
            try:
                file.write(piece)
            except OSError as error:
                raise Misconfigured(f"cannot write {cid}: {error.strerror}") from None
            if received > size:
                break
        return received, Digest(hasher.digest())

    def _explain(
        self, cid: str, size: int, sha256: Digest, received: int, found: Digest, file: BinaryIO
    ) -> WrongBytes:
        """Return the error that names who is at fault for unexpected content."""
        if received == size:
            # Cutting the file anew tells a lying daemon from a CID that never was this content.
            text = f"{cid}: sha256 {found.hex()} instead of {sha256.hex()}"
            file.seek(0)
            if compute_cid(file) == cid:
                return Contradiction(f"{text}, and it is what the CID names")
            return WrongBytes(f"{text}, from the IPFS daemon at {self.api_url}")
        # With another length the root block alone tells: it names the file's size.
        length = "more" if received > size else f"only {received}"
        text = f"{cid}: {length} bytes arrived where {size} were expected"
        try:
            # 2 MiB: twice what peers pass on, and an attacker may have stored a larger root.
            named: int | None = file_bytes(
                Cid.parse(cid), lambda root: self._get_verified(root, 2 << 20)
            )
        except NotAFile as error:
            return Contradiction(f"{cid}: {error}")
        except Unavailable:
            named = None
        if named in (None, size):
            return WrongBytes(f"{text}, from the IPFS daemon at {self.api_url}")
        return Contradiction(f"{cid}: the CID names {named} bytes, {size} were expected")

    def _get_verified(self, cid: Cid, max_bytes: int) -> bytes:
        limit = TimeLimit(self._timeout_s, self._timeout_s + max_bytes / self._slowest_bytes_per_s)
        data = bytearray()
        for piece in post_stream(self._api, "block/get", {"arg": str(cid)}, limit):
            data += piece
            TRAFFIC.add(received=len(piece))
            if len(data) > max_bytes:  # counted as it arrives: a daemon may send without end
                raise WrongBytes(
                    f"{cid}: more than {max_bytes} bytes from the IPFS daemon at {self.api_url}"
                )
        found = compute_sha256(data)
        if found != cid.digest:
            raise WrongBytes(
                f"{cid}: sha256 {found.hex()} instead of {cid.digest.hex()}, "
                f"from the IPFS daemon at {self.api_url}"
            )
        return bytes(data)

    def _check_name(self, answer: Any, cid: str) -> None:
        """Raise WrongBytes unless the daemon's answer is `cid` in some spelling."""
        try:
            named = Cid.parse(str(answer))
        except Misconfigured:
            named = None
        if named != Cid.parse(cid):
            found = " ".join(str(answer).split())[:100]
            raise WrongBytes(f"IPFS daemon at {self.api_url} calls {cid} {found!r}")

    @contextmanager
    def _daemon_errors(self, what: str) -> Iterator[None]:
        """Turn any error of ipfshttpclient into Unavailable."""
        try:
            yield
        except ipfshttpclient.exceptions.ErrorResponse as error:
            text = " ".join(str(error).split())[:200]
            kind = _NotPinned if "not pinned" in text else Unavailable
            raise kind(
                f"IPFS daemon at {self.api_url}: {what}: {text}", service="storage"
            ) from error
        except (ipfshttpclient.exceptions.TimeoutError, requests.Timeout) as error:
            raise Unavailable(
                f"IPFS daemon at {self.api_url}: {what}: silent for {self._timeout_s:.0f} s",
                service="storage",
            ) from error
        except ipfshttpclient.exceptions.ConnectionError as error:
            raise Unavailable(
                f"no IPFS daemon answers at {self.api_url}: is it running?",
                service="storage",
            ) from error
        except (ipfshttpclient.exceptions.Error, OSError, AssertionError, LookupError) as error:
            # The client asserts on answers it does not expect, and while it reads one it lets
            # errors of requests, which are OSErrors, pass.
            text = " ".join(str(error).split())[:200] or type(error).__name__
            raise Unavailable(
                f"IPFS daemon at {self.api_url}: {what}: {text}", service="storage"
            ) from error


class _NotPinned(Unavailable):
    """The daemon reports that a CID is not pinned."""
