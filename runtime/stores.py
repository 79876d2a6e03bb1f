"""Where a role keeps its blocks, and where it says on chain that they are.

That is the section [store] of its settings, of which every key is optional (docs/settings.md).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, model_validator

from protocol.errors import Misconfigured
from protocol.whereabouts import Gateway, Place, parse_place, write_whereabouts
from storage.blocks import Store
from storage.bucket import BucketStore
from storage.dial import DialRules
from storage.gateway import GatewayStore
from storage.ipfs import ContentStore
from storage.rpc import ApiAddress
from storage.sources import Sources


def _check_place(line: str) -> str:
    try:
        return parse_place(line).line
    except Misconfigured as error:
        raise ValueError(str(error)) from None


def _check_gateway(line: str) -> str:
    if not isinstance(parse_place(_check_place(line)), Gateway):
        raise ValueError(f"{line!r} is no web address: expected https://HOST/PATH")
    return line


def _check_api(address: str) -> str:
    try:
        return ApiAddress.parse(address).url
    except Misconfigured as error:
        raise ValueError(str(error)) from None


def _url_or_path(value: Any) -> Any:
    # A URL stays text: `Settings.load` makes every Path absolute, beside the settings file.
    return Path(value) if isinstance(value, str) and "://" not in value else value


def _check_proxy(url: str) -> str:
    place = urlsplit(url)
    # Without a password: the settings are no place for one, and messages would repeat it.
    rest = place.path.strip("/") + place.query + place.fragment + (place.username or "")
    if place.scheme != "http" or not place.hostname or not place.port or rest:
        raise ValueError("expected http://HOST:PORT")
    return url


ProxyUrl = Annotated[str, AfterValidator(_check_proxy)]
ApiUrl = Annotated[str, AfterValidator(_check_api)]
PlaceLine = Annotated[str, AfterValidator(_check_place)]
GatewayLine = Annotated[str, AfterValidator(_check_gateway)]
BucketAddress = Annotated[Path | str, BeforeValidator(_url_or_path)]


class StoreSettings(BaseModel):
    """Where this role's blocks are, and where others read them (docs/stores.md)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ipfs: ApiUrl | None = None
    """The RPC of this role's own IPFS daemon; unset: that of federation.json, which may be
    everybody's, so that nothing is ever removed from it."""
    bucket: BucketAddress | None = None
    """In place of a daemon: `s3://`, `gs://` or `az://` with BUCKET/PREFIX, or a folder that a web
    server shows. It takes `pip install 'commonweight[bucket]'`, and `public`."""
    public: GatewayLine | None = None
    """The web address where others read the bucket or folder, or the gateway before the daemon. It
    is announced on chain, for ever; an aggregator on a public chain cannot bond without."""
    announce: tuple[PlaceLine, ...] = ()
    """Further places to announce, four in all: `/p2p/ID`, or an address that ends in it."""
    proxy: ProxyUrl | None = None
    """The proxy, `http://HOST:PORT` without a password, through which gateways and the bucket are
    reached. Proxies in the environment are ignored."""
    allow_private: bool = False
    """Dial what others announce in local networks, on other ports and by http too. Among strangers
    it lets them have this machine send requests into your network."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.ipfs is not None and self.bucket is not None:
            raise ValueError("ipfs and bucket exclude each other: a role has one store")
        if self.bucket is not None and self.public is None:
            raise ValueError("bucket without public: nobody else could read it")
        try:
            write_whereabouts(self.places)
        except Misconfigured as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def places(self) -> Sequence[Place]:
        """What is announced: `public` first."""
        lines = [*([self.public] if self.public else []), *self.announce]
        return [parse_place(line) for line in dict.fromkeys(lines)]

    def is_own(self, shared_url: str) -> bool:
        """Whether the store is this role's alone, from which it may remove what it put there.

        The daemon in federation.json, at `shared_url`, may be everybody's.
        """
        return self.bucket is not None or self.ipfs not in (None, shared_url)

    @property
    def rules(self) -> DialRules:
        """What may be dialled of what others announce."""
        proxy = None
        if self.proxy is not None:
            place = urlsplit(self.proxy)
            proxy = (str(place.hostname), int(place.port or 0))
        return DialRules(allow_private=self.allow_private, proxy=proxy)

    @property
    def whereabouts(self) -> str:
        """The text to announce; empty for nothing."""
        return write_whereabouts(self.places)

    def reader(self) -> GatewayStore | None:
        """Return where others read the own store; None where the settings name nothing."""
        if self.public is None:
            return None
        place = parse_place(self.public)
        assert isinstance(place, Gateway)  # as it was checked
        return GatewayStore(place, self.rules)

    def own(self, ipfs_url: str) -> Store:
        """Return the role's own store; the daemon at `ipfs_url` where the settings name none.

        Raises Misconfigured for an address that is none.
        """
        if self.bucket is not None:
            return BucketStore(str(self.bucket), proxy=self.proxy, allow_http=self.allow_private)
        return ContentStore(self.ipfs or ipfs_url)

    def open(
        self, ipfs_url: str, itself: str | None = None, *, peers_with_authors: bool = True
    ) -> Sources:
        """Return the own store with what others announced beside it; `itself` announces nothing."""
        return Sources(
            self.own(ipfs_url), self.rules, itself=itself, peers_with_authors=peers_with_authors
        )
