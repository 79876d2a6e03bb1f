"""Pages from facts: Jinja templates that escape everything, and no script or style of their own.

Whatever comes from chain, store or settings is text of strangers: characters that do not print are
escaped by `printable`, markup by Jinja's autoescape, and the server's policy lets no inline script
run even so. No value is ever marked safe.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from explorer.facts import ORIGINS
from explorer.words import short
from protocol.text import printable
from protocol.types import format_tokens
from runtime.status import duration

_UNITS: Final = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))


def render(template: str, facts: Mapping[str, Any]) -> str:
    """Return a page; `facts` are the template's names."""
    return _ENVIRONMENT.get_template(template).render(**facts)


def render_still(template: str, facts: Mapping[str, Any]) -> str:
    """Return a page to be kept: its style inside, no scripts, and dates in place of times."""
    return _STILL.get_template(template).render(**facts)


def relative(time: float, now: float) -> str:
    """Return a time as a person says it: in 4 minutes, 2 days ago, now."""
    seconds = int(time - now)
    for name, size in _UNITS:
        count = abs(seconds) // size
        if count:
            words = f"{count} {name}{'s' if count != 1 else ''}"
            return f"in {words}" if seconds > 0 else f"{words} ago"
    return "now"


def date(time: float) -> str:
    """Return a time in Unix seconds as date and time in UTC."""
    return datetime.fromtimestamp(time, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(time: float) -> str:
    """Return a time in Unix seconds as HTML's `datetime` takes it."""
    return datetime.fromtimestamp(time, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def size_of(count: int) -> str:
    """Return a number of bytes as a person reads it."""
    amount, units = float(count), ("bytes", "kB", "MB", "GB", "TB")
    for unit in units:
        if amount < 1000 or unit == units[-1]:
            break
        amount /= 1000
    return f"{count:,} bytes" if unit == "bytes" else f"{amount:.2f} {unit}"


def _finalize(value: object) -> object:
    """Escape what is not printable in a value; autoescape then escapes its markup."""
    # Markup comes from the templates' own macros, whose values were escaped inside them.
    return value if isinstance(value, Markup) else printable(str(value))


# StrictUndefined: a name misspelt in a template is an error, not an empty cell.
_ENVIRONMENT: Final = Environment(
    # The style sheet too: a page to be kept has it inside.
    loader=ChoiceLoader([PackageLoader("explorer"), PackageLoader("explorer", "static")]),
    autoescape=True,
    finalize=_finalize,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters.update(
    thousands="{:,}".format,
    tokens=format_tokens,
    short=short,
    relative=relative,
    date=date,
    iso=iso,
    size=size_of,
    duration=duration,
)
_ENVIRONMENT.globals.update(origins=ORIGINS, is_still=False)
_STILL: Final = _ENVIRONMENT.overlay()
_STILL.filters = {**_ENVIRONMENT.filters, "relative": lambda time, now: date(time)}
_STILL.globals = {**_ENVIRONMENT.globals, "is_still": True}
