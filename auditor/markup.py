"""HTML that cannot be broken into: text is escaped unless it is markup made here."""

import html
from collections.abc import Mapping

from auditor.check_result import printable

STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --faint: #5d6670; --line: #d8dde2;
  --tint: #f5f7f9; --good: #176f3a; --good-tint: #e6f4ea; --bad: #b3261e; --bad-tint: #fdebea; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e4e7ea; --faint: #9aa4ad;
  --line: #343b42; --tint: #1d2226; --good: #6fce93; --good-tint: #17301f; --bad: #ff8f86;
  --bad-tint: #3d1c1a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2.5rem 1.25rem 4rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .2rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; padding-top: .9rem;
  border-top: 1px solid var(--line); }
h3 { font-size: .95rem; margin: 1.4rem 0 .4rem; }
p { margin: .4rem 0; max-width: 46rem; }
code { font: .84em/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  overflow-wrap: anywhere; }
pre { padding: .8rem 1rem; background: var(--tint); border: 1px solid var(--line);
  border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; margin: .6rem 0; }
dt { color: var(--faint); }
dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92em; }
th { text-align: left; color: var(--faint); font-weight: 600; }
th, td { padding: .35rem .7rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.short, th.short { white-space: nowrap; }
.faint { color: var(--faint); }
.good { color: var(--good); font-weight: 600; }
.bad { color: var(--bad); font-weight: 600; }
.unknown { color: var(--ink); font-weight: 600; }
.banner { margin: 1.2rem 0; padding: .8rem 1rem; border-radius: 6px; font-size: 1.05rem;
  border: 1px solid currentColor; }
.banner.good { background: var(--good-tint); }
.banner.bad { background: var(--bad-tint); }
.banner.unknown { background: var(--tint); }
.badge { font-size: .75rem; font-weight: 600; padding: .1rem .5rem; border-radius: 1rem;
  border: 1px solid currentColor; vertical-align: .15em; margin-left: .4rem; }
summary { cursor: pointer; color: var(--faint); margin: .8rem 0 .3rem; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .4rem; } }
@media print {
  :root { --paper: #fff; --ink: #000; --faint: #444; --line: #bbb; --tint: #fff; --good: #0b4f27;
    --good-tint: #fff; --bad: #8c1d18; --bad-tint: #fff; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  section, tr, dl { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}
"""


class Html(str):
    """Markup, as opposed to text."""

    __slots__ = ()


def element(tag: str, *children: object, **attributes: str) -> Html:
    """Return <tag>children</tag>; a child that is no `Html` is text. `class_` stands for class."""
    spelled = "".join(
        f' {name.rstrip("_")}="{_escaped(value)}"' for name, value in attributes.items()
    )
    inner = "".join(child if isinstance(child, Html) else _escaped(child) for child in children)
    return Html(f"<{tag}{spelled}>{inner}</{tag}>\n")


def joined(*parts: object) -> Html:
    """Return the parts one after the other; what is no `Html` is text."""
    return Html("".join(part if isinstance(part, Html) else _escaped(part) for part in parts))


def table(header: list[tuple[str, str]], rows: list[list[object]]) -> Html:
    """Return a table; `header` has a title and a class, which may be empty, for each column."""
    head = element("tr", *(element("th", title, class_=kind) for title, kind in header))
    body = [
        element(
            "tr",
            *(
                element("td", cell, class_=kind)
                for cell, (_, kind) in zip(row, header, strict=True)
            ),
        )
        for row in rows
    ]
    whole = element("table", element("thead", head), element("tbody", *body))
    return element("div", whole, class_="wide")


def facts(pairs: Mapping[str, object]) -> Html:
    """Return a list of names and what they stand for."""
    return element(
        "dl",
        *(
            joined(element("dt", name), element("dd", value))
            for name, value in pairs.items()
            if value is not None
        ),
    )


def page(title: str, *children: object) -> Html:
    """Return a whole document that loads nothing and runs nothing."""
    # The policy holds even if something slipped through the escaping.
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    head = Html(
        '<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    )
    style = Html(f"<style>{STYLE}</style>\n")
    whole = joined(
        element("head", head, element("title", title), style), element("body", *children)
    )
    return joined(Html("<!doctype html>\n"), element("html", whole, lang="en"))


def _escaped(value: object) -> str:
    return html.escape(printable(str(value)))
