"""A page of HTML that needs nothing from outside: light and dark, on a wide screen, on a phone and on paper."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --faint: #59636e; --line: #d0d7de; --back: #ffffff; --raised: #f6f8fa;
  --band: #1f883d1f; --light: 42%; --subject: #0969da; --baseline: #9a6700; --good: #1a7f37; --bad: #cf222e; }
@media screen and (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --faint: #9198a1; --line: #3d444d; --back: #0d1117; --raised: #161b22;
    --band: #3fb95026; --light: 66%; --subject: #58a6ff; --baseline: #d29922; --good: #3fb950; --bad: #f85149; }
}
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); margin: 1.5rem auto; max-width: 82rem;
  padding: 0 1rem; overflow-wrap: break-word; }
h1 { font-size: 1.4rem; margin-bottom: .2rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; } h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
h4 { font-size: .95rem; margin: 1rem 0 .3rem; }
a { color: var(--subject); } nav { display: flex; flex-wrap: wrap; gap: .3rem 1rem; margin: .8rem 0; }
p, figcaption { color: var(--faint); margin: .4rem 0; } .warn { color: var(--bad); }
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; flex: 1 1 20rem; max-width: 34rem; min-width: 0; }
.small { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); } .small figure { max-width: none; }
.flow { display: flex; flex-wrap: wrap; gap: .6rem 2.2rem; align-items: flex-start; } .flow > * { max-width: 100%; min-width: 0; }
svg { max-width: 100%; height: auto; } td svg { max-width: none; vertical-align: middle; } svg text { fill: var(--faint); font-size: 12px; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .2rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; vertical-align: top; }
th { color: var(--faint); font-weight: 500; } th:first-child, td:first-child, .left { text-align: left; }
.wrap { white-space: normal; min-width: 9rem; text-align: left; overflow-wrap: anywhere; } ul { padding-left: 1.2rem; margin: .3rem 0; } .over { font-weight: 600; }
.better, .met { color: var(--good); } .worse, .missed { color: var(--bad); } .faint { color: var(--faint); }
.matrix td:first-child { text-align: left; } .matrix td:not(:first-child) { text-align: center; background: hsl(212 75% 50% / calc(var(--share, 0) * .6)); }
.matrix td.right:not(:first-child) { background: hsl(140 55% 42% / calc(var(--share, 0) * .6)); }
details { margin: .5rem 0; } summary { cursor: pointer; color: var(--faint); }
article { border-left: 3px solid var(--line); padding-left: 1rem; margin: 1rem 0; } article.better { border-color: var(--good); color: inherit; }
article.worse { border-color: var(--bad); color: inherit; }
@media (max-width: 40rem) { body { padding: 0 .7rem; margin-top: .8rem; } th, td { padding: .2rem .4rem; }
  td:first-child, th:first-child { white-space: normal; min-width: 6.5rem; position: sticky; left: 0; background: var(--back); } }
@media print { body { font-size: 10.5pt; max-width: none; margin: 0; } nav { display: none; } .scroll { overflow: visible; }
  h2, h3, h4 { break-after: avoid; } figure, tr, article { break-inside: avoid; } th, td { white-space: normal; } a { color: inherit; } }
"""


def page(title: str, body: Iterable[str]) -> str:
    """The whole document.

    Args:
        title: Plain text.
        body: HTML; whatever comes from data is escaped already.
    """
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title>",
        f"<style>{_STYLE}</style>",
        "</head>",
        "<body>",
        *body,
        "</body>",
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def table(head: Iterable[str], rows: Iterable[Iterable[str]], *, kind: str = "") -> Iterable[str]:
    """A table that scrolls sideways where there is no room.

    Args:
        head: HTML of the head's cells; a leading `<` begins the cell's own tag.
        rows: The same of each row.
        kind: Class of the table.
    """
    yield '<div class="scroll">' + (f'<table class="{kind}">' if kind else "<table>")
    yield f"<thead><tr>{''.join(_cell('th', each) for each in head)}</tr></thead><tbody>"
    for row in rows:
        yield f"<tr>{''.join(_cell('td', each) for each in row)}</tr>"
    yield "</tbody></table></div>"


def _cell(tag: str, html: str) -> str:
    return html if html.startswith(f"<{tag}") else f"<{tag}>{html}</{tag}>"


def figure(picture: str, caption: str) -> str:
    """A picture with what it shows below it, as HTML."""
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"
