"""Canonical JSON, and the documents stored in it: specs and manifests (docs/protocol.md §5).

A document is strict and frozen, and has exactly one byte sequence: that of RFC 8785.
"""

from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from hashlib import sha256 as _sha256
from typing import Annotated, Any, ClassVar, Final, Literal, Self, get_args, get_origin

import rfc8785
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from protocol.errors import Misconfigured
from protocol.types import Address, Digest, Unit, parse_address, read_address

# What pydantic says of these is about Python's types and its own ways to read them.
_NUMBERS: Final = ("expected a number", "expected a whole number")
_PLAIN: Final = {
    **dict.fromkeys(("float_type", "float_parsing"), _NUMBERS[0]),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), _NUMBERS[1]),
    **dict.fromkeys(("bool_type", "bool_parsing"), "expected true or false"),
    **dict.fromkeys(("string_type", "path_type"), "expected text in quotes"),
    **dict.fromkeys(("tuple_type", "list_type"), "expected a list in brackets"),
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), "expected a section"),
    "missing": "this key is missing",
    "finite_number": "expected a finite number",
}

MAX_DOCUMENT_BYTES: Final = 1 << 20
"""A spec or manifest is one IPFS block, and a block is 1 MiB at most."""


def canonical_json(value: Any) -> bytes:
    """Return the RFC 8785 bytes of a JSON value: sorted keys, no spaces, one form of number.

    Raises Misconfigured for what JSON cannot hold: NaN, integers of 2^53 and above, lone
    surrogates.
    """
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, RecursionError, UnicodeEncodeError) as error:
        raise Misconfigured(f"this cannot be written as canonical JSON: {error}") from error


def sha256(data: bytes | bytearray | memoryview) -> Digest:
    """Return the SHA-256 of `data`."""
    return Digest(_sha256(data).digest())


# Beyond 2^53 a double skips integers, and RFC 8785 writes numbers as JavaScript does: as doubles.
MAX_SAFE_INTEGER = 2**53 - 1


def _address_by(read: Callable[[str], Address]) -> AfterValidator:
    def checked(text: str) -> str:
        try:
            return read(text)
        except Misconfigured as error:
            # pydantic turns a ValueError into a fault with its place; else it would pass through.
            raise ValueError(str(error)) from error

    return AfterValidator(checked)


HexDigest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ChecksumAddress = Annotated[Address, _address_by(parse_address)]
TypedAddress = Annotated[Address, _address_by(read_address)]  # by a person: in any case
Count = Annotated[int, Field(ge=0, le=MAX_SAFE_INTEGER)]
PositiveCount = Annotated[int, Field(ge=1, le=MAX_SAFE_INTEGER)]
Name = Annotated[str, Field(max_length=256, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
Dimension = Annotated[int, Field(ge=1, lt=2**31)]
Shape = Annotated[tuple[Dimension, ...], Field(min_length=1, max_length=8, strict=False)]


class Part(BaseModel):
    """A frozen piece of a document: unknown fields, other types and NaN are refused.

    Fields named in `OPTIONAL` are left out of the bytes while they have their defaults, so that
    what most federations do not use does not lengthen their documents.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    OPTIONAL: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_defaults(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialize(self)
        unused = {
            n for n in self.OPTIONAL if getattr(self, n) == type(self).model_fields[n].default
        }
        return {name: value for name, value in fields.items() if name not in unused}


class Document(Part):
    """A part stored on its own, as one raw IPFS block of canonical JSON."""

    def to_bytes(self) -> bytes:
        """Return the canonical JSON bytes; Misconfigured beyond 1 MiB."""
        raw = canonical_json(self.model_dump(mode="json"))
        if len(raw) > MAX_DOCUMENT_BYTES:
            raise Misconfigured(f"{len(raw):,} bytes do not fit a block of {MAX_DOCUMENT_BYTES:,}")
        return raw

    def digest(self) -> Digest:
        """Return the SHA-256 of `to_bytes()`, which is also the digest in its CID."""
        return sha256(self.to_bytes())

    @classmethod
    def _parse(cls, raw: bytes) -> Self:
        """Return the document in `raw`; a one-line ValueError when `raw` is not its bytes."""
        # Before parsing: the bytes are a stranger's, and the parser would take any number of them.
        if len(raw) > MAX_DOCUMENT_BYTES:
            raise ValueError(f"{len(raw):,} bytes, at most {MAX_DOCUMENT_BYTES:,} are allowed")
        try:
            document = cls.model_validate_json(raw)
        except ValidationError as error:
            raise ValueError(_other_version(error) or first_fault(error)) from error
        # One comparison refuses spaces, other key orders, duplicate keys and other number forms.
        if document.to_bytes() != raw:
            raise ValueError("not canonical JSON (RFC 8785)")
        return document


def _other_version(error: ValidationError) -> str | None:
    """Return what to say of a document whose version is another number, else None."""
    for fault in error.errors(include_url=False):
        found = fault["input"]
        # Small ones only: the text must stay one line whatever the bytes are.
        if fault["loc"] == ("version",) and type(found) is int and 0 <= found < 1000:
            expected = fault["ctx"]["expected"]
            return f"this is a file of version {found}; version {expected} was expected"
    return None


def first_fault(error: ValidationError) -> str:
    """Return the first fault that pydantic found, in one line: its place and what was expected."""
    return faults_of(error)[0]


def faults_of(error: ValidationError, kind: type[BaseModel] | None = None) -> list[str]:
    """Return each fault that pydantic found, in one line: its place and what was expected.

    With `kind`, the model that was expected, a key that it does not have comes with the nearest one
    that it has, and a number with its unit: for files that people type.
    """
    told = []
    # Without the input: it may be a megabyte long.
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        place, message = ".".join(str(step) for step in fault["loc"]), _plain(fault)
        if kind is not None and fault["type"] == "extra_forbidden":
            message = _unknown_key(kind, fault["loc"])
        elif kind is not None and message in _NUMBERS and (unit := _unit_at(kind, fault["loc"])):
            message = f"{message} of {unit}"
        text = f"{place}: {message}" if place else message
        told.append(" ".join(text.split())[:300])
    return told


def _plain(fault: ErrorDetails) -> str:
    """Return what is wrong in the words of whoever typed it, not in those of the library."""
    if fault["type"] in _PLAIN:
        return _PLAIN[fault["type"]]
    message = fault["msg"].removeprefix("Value error, ").replace("Invalid JSON:", "not JSON:")
    for said, plain in (("Input should be a ", "expected a "), ("Input should be ", "must be ")):
        if message.startswith(said):
            return plain + message.removeprefix(said)
    return message


def unit_of(field: FieldInfo) -> str:
    """Return the unit that a number's type names, inside of optional ones too; else nothing."""
    found = (each.name for each in metadata_of(field) if isinstance(each, Unit))
    return next(found, "")


def metadata_of(field: FieldInfo) -> Iterator[Any]:
    """Yield what Annotated adds to a field's type, inside of optional ones too."""
    yield from field.metadata
    pending = [field.annotation]
    while pending:
        part = pending.pop()
        for each in getattr(part, "__metadata__", ()):
            yield from each.metadata if isinstance(each, FieldInfo) else (each,)
        if get_origin(part) is not Literal:
            pending += get_args(part)


def _unit_at(kind: type[BaseModel], place: tuple[int | str, ...]) -> str:
    field = _section(kind, place[:-1]).model_fields.get(str(place[-1])) if place else None
    return "" if field is None else unit_of(field)


def _unknown_key(kind: type[BaseModel], place: tuple[int | str, ...]) -> str:
    *sections, key = place
    names = list(_section(kind, sections).model_fields)
    near = get_close_matches(str(key), names, n=1)
    if near:
        return f"there is no such key; did you mean {near[0]}?"
    return f"there is no such key; known are {', '.join(names)}"


def _section(kind: type[BaseModel], sections: Sequence[int | str]) -> type[BaseModel]:
    """Return the model of a section, through optional ones; the last known one for other kinds."""
    for name in sections:
        field = kind.model_fields.get(str(name))
        found = [] if field is None else [field.annotation, *get_args(field.annotation)]
        kind = next(
            (each for each in found if isinstance(each, type) and issubclass(each, BaseModel)), kind
        )
    return kind
