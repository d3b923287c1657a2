"""Building blocks of a self-contained HTML page: no script, nothing from the network.

Every text is escaped here, so that no name of a device, file or data set becomes markup. Pure.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Literal

__all__ = ["Tone", "format_facts", "format_page", "format_picture", "format_table", "format_texts"]

Tone = Literal["good", "quiet", "careful", "bad"]

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --line: #d5dae0; --back: #fff;
  --good: #1a7f37; --quiet: #57606a; --careful: #9a6700; --bad: #b42318; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9ea7b3; --line: #3a424c;
  --back: #14181d; --good: #57c878; --quiet: #a0a9b4; --careful: #e3b341; --bad: #ff8479; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back);
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; border-bottom: 1px solid var(--line); }
header { border-left: .4rem solid var(--tone); padding-left: 1rem; }
header p { margin: .2rem 0; }
.good { --tone: var(--good); } .quiet { --tone: var(--quiet); }
.careful { --tone: var(--careful); } .bad { --tone: var(--bad); }
p.soft, dt { color: var(--soft); }
dl { display: grid; grid-template-columns: 11rem 1fr; gap: .2rem 1rem; margin: 0; }
dd { margin: 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem .3rem 0; text-align: right; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
tr.own td { font-weight: 600; }
img { max-width: 100%; background: #fff; }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dt { margin-top: .4rem; } }
"""


def format_page(
    title: str, subtitle: str, tone: Tone, sections: Mapping[str, Sequence[str]]
) -> bytes:
    """A whole page.

    Args:
        title: What happened, in a few words.
        subtitle: When, or to what.
        tone: Colour of the head.
        sections: Blocks by heading, as the other functions return them; one without blocks is left
            out.
    """
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f'<header class="{tone}"><h1>{escape(title)}</h1><p class="soft">{escape(subtitle)}</p>',
        "</header><main>",
    ]
    for heading, blocks in sections.items():
        if blocks:
            parts += [f"<section><h2>{escape(heading)}</h2>", *blocks, "</section>"]
    return "\n".join([*parts, "</main></body></html>", ""]).encode("utf-8")


def format_texts(texts: Sequence[str], *, soft: bool = False) -> str:
    """Paragraphs.

    >>> format_texts(["a < b"])
    '<p>a &lt; b</p>'
    """
    kind = ' class="soft"' if soft else ""
    return "\n".join(f"<p{kind}>{escape(text)}</p>" for text in texts if text)


def format_facts(facts: Mapping[str, str]) -> str:
    """Names and values; those without a value are left out.

    >>> format_facts({"stream": "pump", "age": ""})
    '<dl><dt>stream</dt><dd>pump</dd></dl>'
    """
    rows = [
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items() if value
    ]
    return f"<dl>{''.join(rows)}</dl>"


def format_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], own: frozenset[int] = frozenset()
) -> str:
    """A table; the first column is text, the others are numbers.

    Args:
        header: Titles of the columns.
        rows: Cells.
        own: Places of the rows that stand out.
    """
    head = "".join(f"<th>{escape(title)}</th>" for title in header)
    body = "\n".join(
        ('<tr class="own">' if place in own else "<tr>")
        + "".join(f"<td>{escape(cell)}</td>" for cell in row)
        + "</tr>"
        for place, row in enumerate(rows)
    )
    return f'<div class="wide"><table><tr>{head}</tr>\n{body}</table></div>'


def format_picture(png: bytes, alt: str) -> str:
    """A picture inside the page."""
    data = base64.b64encode(png).decode("ascii")
    return f'<img alt="{escape(alt, quote=True)}" src="data:image/png;base64,{data}">'
