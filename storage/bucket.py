"""Blocks as objects of a bucket or files of a folder, which others read through a web server.

    store = BucketStore("s3://hospital-updates/ann")          # or gs://, az://, or a folder
    store.put_blocks([b"one", b"two"])                          # …/ipfs/bafkrei…

The key of a block is `ipfs/CID` below the bucket's prefix, so that the bucket's public address, or
a plain web server before the folder, is a gateway (docs/protocol.md §12). Credentials come from
where the provider's own tools take them: AWS_ACCESS_KEY_ID and its siblings, the file that
AWS_SHARED_CREDENTIALS_FILE names, or the machine's role.
"""

import configparser
import math
import os
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from profiling.traffic import TRAFFIC
from protocol.canonical import sha256 as compute_sha256
from protocol.cid import raw_cid
from protocol.errors import Misconfigured, Unavailable
from protocol.types import Digest
from storage.blocks import batches, join_block
from storage.gateway import EMPTY_CID
from storage.http import one_line, shorten

if TYPE_CHECKING:
    from obstore.store import ClientConfig

_SCHEMES: Final = ("s3", "gs", "az")
_AT_ONCE: Final = 8
_BATCH_BLOCKS: Final = 16
_PIECE_BYTES: Final = 262_144
_EVERYWHERE: Final = "*,0.0.0.0/0,::/0"  # names, and addresses, which the star does not cover
T = TypeVar("T")
U = TypeVar("U")


class BucketStore:
    """A bucket, by its URL, or a folder, by its absolute path; a store as in storage/blocks.py.

    `timeout_s` bounds each request as a whole. Raises Misconfigured for an address that is none,
    or when the extra `bucket` is not installed.
    """

    def __init__(
        self,
        address: str,
        timeout_s: float = 60.0,
        *,
        proxy: str | None = None,
        allow_http: bool = False,
    ) -> None:
        try:
            import obstore  # an extra
        except ModuleNotFoundError:
            raise Misconfigured(
                "a bucket or folder as a store: pip install 'commonweight[bucket]'"
            ) from None
        self._address = address
        self._api: Any = obstore
        client: ClientConfig = {
            "timeout": timedelta(seconds=timeout_s),
            "connect_timeout": timedelta(seconds=min(timeout_s, 10)),
            "allow_http": allow_http,
        }
        if proxy is None:
            # Left alone, the client takes one from the environment, as no other store here does.
            # It has no switch for that, but a proxy that nothing is sent through is one.
            client["proxy_url"], client["proxy_excludes"] = "http://unused.invalid", _EVERYWHERE
        else:
            client["proxy_url"] = proxy
        self._objects = _open(address, client)

    @property
    def address(self) -> str:
        """The bucket's URL, or the folder."""
        return self._address

    def put_block(self, data: bytes) -> Digest:
        """Store one block; return its SHA-256."""
        return self.put_blocks([data])[0]

    def put_blocks(self, blocks: Iterable[bytes], *, pinned: bool = True) -> list[Digest]:
        """Store each of `blocks`, eight at once; return their SHA-256. There are no pins."""
        # What readers ask a gateway for at first. Each time: a bucket may have a rule that deletes
        # what is old, and a folder an owner who tidies up.
        self._put(EMPTY_CID, b"")
        digests: list[Digest] = []
        for batch in batches(blocks, _BATCH_BLOCKS):
            digests += self._all_at_once(self._put_one, batch)
        return digests

    def get_block(
        self, digest: Digest, size: int | None = None, deadline: float = math.inf
    ) -> bytes:
        """Return a block of this bucket's own (storage/blocks.py)."""
        cid = raw_cid(digest)

        def read() -> bytes:
            found = self._api.get(self._objects, f"ipfs/{cid}")
            pieces = map(bytes, found.stream(min_chunk_size=_PIECE_BYTES))
            return join_block(pieces, digest, size, self.address)

        return self._plainly(cid, read)

    def has(self, digest: Digest) -> bool:
        """Whether there is an object for this block."""
        try:
            self._plainly(
                raw_cid(digest), lambda: self._api.head(self._objects, f"ipfs/{raw_cid(digest)}")
            )
        except _NotThere:
            return False
        return True

    def remove_blocks(self, digests: Collection[Digest], *, also_pinned: bool = True) -> None:
        """Delete these blocks: nobody else's are here, and there are no pins."""
        self._all_at_once(self._remove, list(dict.fromkeys(digests)))

    def _put_one(self, block: bytes) -> Digest:
        digest = compute_sha256(block)
        self._put(raw_cid(digest), block)
        TRAFFIC.add(sent=len(block))
        return digest

    def _put(self, cid: str, data: bytes) -> None:
        def write() -> None:
            self._api.put(self._objects, f"ipfs/{cid}", data, use_multipart=False)

        self._plainly(cid, write)

    def _remove(self, digest: Digest) -> None:
        cid = raw_cid(digest)
        with suppress(_NotThere):
            self._plainly(cid, lambda: self._api.delete(self._objects, f"ipfs/{cid}"))

    def _all_at_once(self, work: Callable[[T], U], items: Collection[T]) -> list[U]:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(work, items))

    def _plainly(self, cid: str, work: Callable[[], T]) -> T:
        """Return what `work` returns, and turn any error of obstore into Unavailable."""
        try:
            return work()
        except (FileNotFoundError, self._api.exceptions.NotFoundError):
            raise _NotThere(f"{self.address} does not have {cid}", service="storage") from None
        except (OSError, self._api.exceptions.BaseError) as error:
            # Its debug output, with all of the request, follows after an empty line.
            said = one_line(str(error).partition("\n\n")[0])
            raise Unavailable(
                f"{self.address}: {cid}: {shorten(said)}", service="storage"
            ) from None


class _NotThere(Unavailable):
    """There is no object of this name."""


def _open(address: str, client: "ClientConfig") -> Any:
    from obstore.exceptions import BaseError
    from obstore.store import LocalStore, from_url

    scheme, separator, _ = address.partition("://")
    try:
        if separator and scheme in _SCHEMES:
            options: Any = {"client_options": client, "retry_config": {"max_retries": 2}}
            if scheme == "s3":
                _check_endpoint()
                options |= _shared_credentials()
            return from_url(address, **options)
        if not separator and Path(address).is_absolute():
            return LocalStore(address, mkdir=True)
    except (BaseError, OSError, ValueError) as error:
        said = one_line(str(error).partition("\n\n")[0])
        raise Misconfigured(f"bucket {address!r}: {shorten(said)}") from None
    raise Misconfigured(
        f"bucket {address!r}: expected s3://BUCKET/PREFIX, gs://…, az://… or a folder"
    )


def _check_endpoint() -> None:
    """Raise Misconfigured for an endpoint in the environment that the client would panic at."""
    for name in ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        url = urlsplit(os.environ.get(name, "http://unset"))
        if url.scheme not in ("http", "https") or not url.hostname:
            raise Misconfigured(f"{name} in the environment: expected https://HOST, or no variable")


def _shared_credentials() -> dict[str, str]:
    """Return what AWS's shared credentials file has, where the environment names one.

    Unlike an environment, such a file can be mounted into a container as a secret. The client does
    not read it by itself. Raises Misconfigured for a file that is none.
    """
    file, profile = os.environ.get("AWS_SHARED_CREDENTIALS_FILE"), os.environ.get("AWS_PROFILE")
    if not file or "AWS_ACCESS_KEY_ID" in os.environ:
        return {}
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(Path(file).read_text())
        section = parser[profile or "default"]
        found = {"access_key_id": section["aws_access_key_id"]}
        found["secret_access_key"] = section["aws_secret_access_key"]
    except (OSError, ValueError, KeyError, configparser.Error) as error:
        # Of a parser's error the kind alone: its text repeats the file's lines.
        why = str(error) if isinstance(error, OSError | KeyError) else type(error).__name__
        raise Misconfigured(f"AWS_SHARED_CREDENTIALS_FILE {file}: {shorten(why)}") from None
    if token := section.get("aws_session_token"):
        found["session_token"] = token
    return found
