"""Write docs/settings.md, or the file given, from the models of the settings (`make docs`).

A key's text is the string below it in its model, its unit is the `Unit` of its type, and its limits
are those that pydantic checks.
"""

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from aggregator.settings import AggregatorSettings
from node.settings import ParticipantSettings
from protocol.canonical import MAX_SAFE_INTEGER, metadata_of, unit_of
from protocol.types import Address
from sponsor.config import Config

TARGET: Final = Path(__file__).parents[1] / "docs" / "settings.md"
INTRODUCTION: Final = """# Settings

Every key of the files that people write, with its type, default, unit and consequence. Paths are
relative to the file they are in. A key that does not exist is refused, with the nearest one that
does. Made by `make docs` from the models that read these files; a test compares.
"""
FILES: Final = (
    (
        "participant.toml",
        ParticipantSettings,
        "Read by `commonweight participant`, written by `participant init`.",
    ),
    (
        "aggregator.toml",
        AggregatorSettings,
        "Read by `commonweight aggregator`, written by `aggregator init`.",
    ),
    (
        "Configuration",
        Config,
        "What a federation is founded on: read by `commonweight federation create`, `federation"
        " check` and `commonweight demo`. [configs/demo.toml](../configs/demo.toml) is one with"
        " notes.",
    ),
)
DIMENSIONLESS: Final = {
    "adapter.alpha",
    "data.partition.alpha",
    "training.learning_rate",
    "training.over_rounds.final_learning_rate",
    "training.proximal_mu",
}
_WORDS: Final[dict[Any, str]] = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    Path: "path",
    Address: "address",
}
_SIGNS: Final = ((Ge, "ge", "≥"), (Gt, "gt", ">"), (Le, "le", "≤"), (Lt, "lt", "<"))
Model = type[BaseModel]


def settings_reference() -> str:
    """Return docs/settings.md as the models have it now; ValueError for a key without a text."""
    return INTRODUCTION + "".join(
        f"\n## {title}\n\n{use}\n{''.join(settings_tables(model, title))}"
        for title, model, use in FILES
    )


def without_unit(model: Model, prefix: str = "") -> list[str]:
    """Return the keys of `model` and its sections whose numbers have no unit."""
    lacking = []
    for name, field in model.model_fields.items():
        place = f"{prefix}{name}"
        if (section := _section(field)) is not None:
            lacking += without_unit(section, f"{place}.")
        elif {int, float} & set(_kinds(field.annotation)) and place not in DIMENSIONLESS:
            lacking += [] if unit_of(field) else [place]
    return lacking


def settings_tables(model: Model, title: str, prefix: str = "") -> Iterator[str]:
    """Yield the table of `model`'s own keys, those it cannot do without first, then its sections'.

    `title` names the file, and `prefix` the section in it that `model` is. ValueError for a key
    without a text.
    """
    fields = model.model_fields.items()
    sections = {name: found for name, field in fields if (found := _section(field))}
    own = [(name, field) for name, field in fields if name not in sections]
    own.sort(key=lambda each: not each[1].is_required())
    if rows := [_row(model, name, field) for name, field in own]:
        titles = ["key", "type", "default", "unit", "what it does"]
        lines = [titles, ["---"] * len(titles), *rows]
        yield "\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)
    for name, section in sections.items():
        words = inspect.getdoc(section) or ""
        yield f"\n### {title} [{prefix}{name}]\n\n{_linked(words)}\n"
        yield from settings_tables(section, title, f"{prefix}{name}.")


def _row(model: Model, name: str, field: FieldInfo) -> list[str]:
    text = _texts(model).get(name)
    if text is None:
        raise ValueError(f"{model.__name__}.{name} has no text below it")
    return [f"`{name}`", _type(field), _default(field), unit_of(field), _linked(text)]


def _linked(text: str) -> str:
    """Return `text` on one line, with the pages it names as links."""
    line = " ".join(text.split()).replace("|", "\\|")
    return re.sub(r"docs/([\w.-]+\.md)", r"[\1](\1)", line)


def _texts(model: Model) -> dict[str, str]:
    """Return the strings below the fields of `model` and of the models it derives from."""
    texts: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if not (issubclass(kind, BaseModel) and kind.__module__.partition(".")[0] != "pydantic"):
            continue
        body = ast.parse(inspect.getsource(kind)).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    texts[name] = text
    return texts


def _section(field: FieldInfo) -> Model | None:
    """Return the model of a key that is a table of its own; None for a plain key."""
    return next((each for each in _kinds(field.annotation) if _is_model(each)), None)


def _kinds(annotation: Any) -> list[Any]:
    """Return the types that a value may have, without what Annotated adds to them."""
    if hasattr(annotation, "__metadata__"):
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in (None, Literal, tuple, dict):
        return [annotation]
    return [kind for part in get_args(annotation) for kind in _kinds(part)]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _type(field: FieldInfo) -> str:
    words = dict.fromkeys(_word(kind) for kind in _kinds(field.annotation) if kind is not NoneType)
    limits = [
        f"{sign} {limit:,.10g}"
        for kind, name, sign in _SIGNS
        for each in metadata_of(field)
        if isinstance(each, kind) and (limit := getattr(each, name)) < MAX_SAFE_INTEGER
    ]
    return ", ".join([" or ".join(words), *dict.fromkeys(limits)])


def _word(kind: Any) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Literal:
        values = [f"`{_toml(part)}`" for part in parts]
        return " or ".join(values) if len(values) < 3 else f"one of {', '.join(values)}"
    if origin is tuple:
        return f"list of {_word(_kinds(parts[0])[0])}"
    if origin is dict:
        return "table of paths by name"
    return _WORDS[kind]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return "" if field.default in (None, (), {}) else f"`{_toml(field.default)}`"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str | Path) else str(value)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    target.write_text(settings_reference())
