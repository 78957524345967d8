"""The data card as one page of HTML that needs nothing from outside. Everything that comes from data is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from aifw.data.surface import Accuracy

_SHOWN = 600
"""Characters of a text of an example."""

_BAR, _GAP, _HIGH, _FOOT = 26.0, 4.0, 90.0, 18.0

_STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --faint: #59636e; --line: #d0d7de; --back: #ffffff; --bar: #2f6fb5; --good: #1a7f37; --bad: #b35900; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6edf3; --faint: #9198a1; --line: #3d444d; --back: #0d1117; --bar: #6cb0f5; --good: #57ab5a; --bad: #e0913a; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); margin: 1.5rem auto; max-width: 60rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; } h3 { font-size: .95rem; margin: .5rem 0; }
.scroll { overflow-x: auto; } .pictures { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; flex: 1 1 16rem; } figcaption, p { color: var(--faint); }
svg { max-width: 100%; height: auto; } svg text { fill: var(--faint); font-size: 10px; text-anchor: middle; } svg rect { fill: var(--bar); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .2rem .6rem; border-bottom: 1px solid var(--line); } th { color: var(--faint); font-weight: 500; }
th:first-child, td:first-child { text-align: left; }
dl { margin: 0; } dt { color: var(--faint); font-size: .85rem; } dd { margin: 0 0 .6rem; white-space: pre-wrap; overflow-wrap: anywhere; }
article { border-left: 3px solid var(--line); padding-left: 1rem; margin: 1rem 0; }
.chosen { color: var(--good); } .rejected { color: var(--bad); }
"""


def page(card: Mapping[str, Any]) -> str:
    """The page.

    Args:
        card: As `aifw.data.card.make` gives it.
    """
    train, heldout = card["train"], card["heldout"]
    title = f"{train['rows']:,} preference pairs, {heldout['rows']:,} held out"
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8"/>',
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
        f"<title>{title}</title>",
        f"<style>{_STYLE}</style>",
        "</head>",
        "<body>",
        f"<h1>{title}</h1>",
        *_counts(train, heldout),
        *_origins(card),
        *_losses(card),
        *_lengths(card["lengths"]),
        *_duplicates(card["duplicates"]),
        *_leaks(card["leaks"], card["largest_cluster"], card["duplicates"]["comparisons_skipped"]),
        *_trust(card),
        *_guessing(card["guessing"]),
        *_examples(card["examples"]),
        "</body>",
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _counts(train: Mapping[str, Any], heldout: Mapping[str, Any]) -> Iterable[str]:
    names = (
        ("pairs", "rows"),
        ("clusters of conversations", "groups"),
        ("simulated", "simulated"),
        ("characters of a prompt, mean", "chars_prompt"),
        ("characters of a chosen answer, mean", "chars_chosen"),
        ("characters of a rejected answer, mean", "chars_rejected"),
        ("characters of the longest pair", "chars_longest"),
    )
    rows = [(label, f"{train[name]:,}", f"{heldout[name]:,}") for label, name in names]
    return _table(("", "train", "held out"), rows)


def _origins(card: Mapping[str, Any]) -> Iterable[str]:
    kinds = [*dict.fromkeys([*card["events"], *card["sources"]])]
    rows = [(kind, f"{card['events'].get(kind, 0):,}", f"{card['sources'].get(kind, 0):,}") for kind in kinds]
    yield "<h2>Where they come from</h2>"
    yield from _table(("kind", "events", "pairs"), rows)


def _losses(card: Mapping[str, Any]) -> Iterable[str]:
    yield "<h2>What was lost, and why</h2>"
    rows = [(reason, f"{count:,}") for reason, count in card["lost"].items()]
    yield from _table(("reason", "count"), rows or [("nothing", "0")])


def _lengths(lengths: Mapping[str, Any]) -> Iterable[str]:
    yield "<h2>Lengths in characters</h2>"
    for side, label in (("train", "Train"), ("heldout", "Held out")):
        yield f"<h3>{label}</h3>"
        yield '<div class="pictures">'
        for what, spread in lengths[side].items():
            yield from _histogram(f"{label}: {what}", spread)
        yield "</div>"


def _histogram(name: str, spread: Mapping[str, Any]) -> Iterable[str]:
    counts = spread["histogram"]
    if not counts:
        return
    most = max(counts.values())
    width = len(counts) * (_BAR + _GAP)
    mean, quantiles = spread["mean"], spread["quantiles"]
    yield "<figure>"
    yield (
        f'<svg viewBox="0 0 {width:g} {_HIGH + _FOOT:g}" width="{width:g}" height="{_HIGH + _FOOT:g}" role="img"'
        f' aria-label="{escape(name, quote=True)}">'
    )
    for number, (low, count) in enumerate(counts.items()):
        high = (_HIGH - 4) * count / most
        left = number * (_BAR + _GAP)
        yield (
            f'<rect x="{left:g}" y="{_HIGH - high:.1f}" width="{_BAR:g}" height="{high:.1f}">'
            f"<title>{int(low):,} to {2 * int(low) - 1:,} characters: {count:,}</title></rect>"
        )
        yield f'<text x="{left + _BAR / 2:g}" y="{_HIGH + 13:g}">{low}</text>'
    yield "</svg>"
    listed = ", ".join(f"{float(at):.0%} {value:,}" for at, value in quantiles.items() if at != "1")
    yield f"<figcaption>{escape(name)}: mean {mean:,}, up to {listed}, longest {quantiles['1']:,}</figcaption>"
    yield "</figure>"


def _duplicates(found: Mapping[str, Any]) -> Iterable[str]:
    yield "<h2>Repetitions</h2>"
    pairs = found["pairs"]
    rows = [
        (what, f"{found[what]['texts']:,}", f"{found[what]['exact_rate']:.1%}", f"{found[what]['near_rate']:.1%}")
        for what in ("prompts", "answers")
    ]
    yield from _table(("", "texts", "repeat another exactly", "exactly or nearly"), rows)
    missed = found["missed_at_threshold"]
    certainty = f"misses one in {1 / missed:,.0f} pairs of texts just at the threshold" if missed else "misses none"
    skipped = found["comparisons_skipped"]
    yield (
        f"<p>{pairs['repeated']:,} of {pairs['judged']:,} pairs ({pairs['rate']:.1%}) say what a surer or a held-out one says, or its"
        f" opposite, and were dropped. Nearly: an overlap of {found['threshold']:.0%} of 5-character shingles. {escape(found['method'])};"
        f" {certainty}{f'; {skipped:,} comparisons of very common texts left out' if skipped else ''}.</p>"
    )


def _leaks(found: Mapping[str, Any], largest: int, skipped: int) -> Iterable[str]:
    yield "<h2>Leaks</h2>"
    share = "share nothing" if not skipped else "share nothing that was found, but not everything was compared"
    left_out = f", with {skipped:,} comparisons of very common texts left out" if skipped else ""
    yield (
        f"<p>Train and held-out {share}; compared were {escape(found['between_sides'])}{left_out}. The largest cluster has"
        f" {largest:,} conversations.</p>"
    )
    if found["sealed"]:
        rows = [(name, f"{count:,}") for name, count in found["sealed"].items()]
        yield from _table(("sealed set", "training pairs that shared something with it, and were dropped"), rows)
        if skipped:
            yield "<p>With sealed sets, too, not everything was compared.</p>"
    else:
        yield "<p>No other set was named as sealed.</p>"


def _trust(card: Mapping[str, Any]) -> Iterable[str]:
    yield "<h2>Confidence</h2>"
    yield from _table(("from", "pairs"), [(low, f"{count:,}") for low, count in card["confidence"].items()])
    raters, age = card["raters"], card["age"]
    if raters["unanimous"] is None:
        yield "<p>No pair was judged by several raters, so nothing is known of how reliable each is.</p>"
    else:
        shift = raters["shift"]
        weighed = (
            f" By this, the log-odds of raters' votes were shifted by {shift['lowest']:+.2f} to {shift['highest']:+.2f},"
            f" in the middle {shift['median']:+.2f}."
            if shift
            else " Raters count alike."
        )
        yield (
            f"<p>{raters['pairs_of_several']:,} pairs were judged by several raters; they were of one mind on"
            f" {raters['unanimous']:.1%}.{weighed}</p>"
        )
    if age["days"]:
        half_life = age["half_life_days"]
        days = age["days"]
        yield (
            f"<p>Half of the pairs were judged at most {days['0.5']:g} days before the newest event ({escape(age['newest'])}), the oldest"
            f" {days['1']:g} days. "
            + ("Age does not matter." if half_life is None else f"Judgements count half after {half_life:g} days.")
            + "</p>"
        )


def _guessing(guessing: Mapping[str, Any]) -> Iterable[str]:
    yield "<h2>Can the choice be guessed from the surface?</h2>"
    yield (
        "<p>One half means no. Real pairs of both sides; intervals are 95 % and allow for pairs of one cluster going together.</p>"
    )
    rows = [
        ("the longer answer wins", _interval(guessing["longer_wins"])),
        ("logistic regression on words, cross-validated by cluster", _interval(guessing["bag_of_words"])),
    ]
    yield from _table(("guess", "right"), rows)


def _interval(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "too few clusters to say"
    known = Accuracy(**found)
    return f"{known.value:.3f} ({known.low:.3f} to {known.high:.3f}, n {known.items:,})"


def _examples(rows: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    yield "<h2>Examples</h2>"
    for row in rows:
        yield "<article><dl>"
        for message in row["prompt"]:
            yield f"<dt>{escape(message['role'])}</dt><dd>{_text(message['content'])}</dd>"
        yield f'<dt class="chosen">chosen</dt><dd>{_text(row["chosen"])}</dd>'
        yield f'<dt class="rejected">rejected</dt><dd>{_text(row["rejected"])}</dd>'
        yield f"</dl><p>{escape(row['source'])}, confidence {row['confidence']:.2f}</p></article>"


def _text(text: str) -> str:
    """Escaped and cut. What XML cannot hold is shown as the replacement character."""
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + " …"
    return escape("".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in shown))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    yield '<div class="scroll"><table>'
    yield "<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"
    for row in rows:
        yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
    yield "</table></div>"
