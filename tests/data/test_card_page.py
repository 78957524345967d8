import hashlib
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from aifw.data.card_page import page
from aifw.data.events import check, encode
from aifw.data.kinds import PreferencesSettings
from aifw.data.preferences import build
from aifw.job import Input, Job

HOSTILE = '<script>alert("x")</script> & <img src=x onerror=alert(1)> \x00\x1b[31m "quoted" \'single\''


def event(number, **changed):
    word = hashlib.sha256(str(number).encode()).hexdigest()
    return check(
        {
            "id": f"e{number:05d}",
            "kind": "comparison",
            "conversation": f"c{number}",
            "rater": "ana",
            "time": f"2026-03-{1 + number % 28:02d}T10:00:00Z",
            "prompt": f"{HOSTILE} {word}?",
            "answer_a": f"{word[::-1]} {HOSTILE * (1 + number % 9)}",
            "answer_b": f"{word[::2]} </style></title></dd>{HOSTILE}",
            "preferred": "a",
        }
        | changed
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The card and the page of feedback whose every text is hostile, conversation and rater too."""
    folder = tmp_path_factory.mktemp("made")
    events = [event(number) for number in range(30)]
    events += [event(number, id=f"f{number}", rater=HOSTILE.replace("\x00", "")) for number in range(8)]
    events += [event(40 + number, preferred="tie") for number in range(2)]
    (folder / "events.jsonl").write_text("".join(encode(each) + "\n" for each in events), encoding="utf-8")
    job = Job(
        PreferencesSettings.model_validate({"from": "feedback", "half_life": "90d", "near_duplicates": 1.0}),
        out=folder / "out",
        inputs={"from": Input("datasets.feedback", folder)},
        outputs=("train", "heldout", "card"),
    )
    build(job)
    card = json.loads((job.out / "card/card.json").read_text(encoding="utf-8"))
    return card, (job.out / "card/card.html").read_text(encoding="utf-8")


def test_the_page_is_well_formed(made):
    root = ET.fromstring(made[1].removeprefix("<!doctype html>"))
    assert root.tag == "html"
    assert root.get("lang") == "en"
    assert [child.tag for child in root] == ["head", "body"]


def test_what_data_say_is_text_and_never_markup(made):
    card, text = made
    found = []

    class Elements(HTMLParser):
        def handle_starttag(self, tag, attributes):
            found.append((tag, dict(attributes)))

    Elements().feed(text)
    tags = {tag for tag, _ in found}
    assert "script" not in tags
    assert "img" not in tags
    assert not any(name.startswith("on") for _, attributes in found for name in attributes)
    assert "&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;" in text
    assert "\x1b" not in text
    shown = "".join(ET.fromstring(text.removeprefix("<!doctype html>")).itertext())
    assert card["examples"][0]["rejected"].replace("\x00", "\ufffd").replace("\x1b", "\ufffd") in shown


def test_the_page_needs_nothing_from_outside_and_suits_dark_screens_and_phones(made):
    text = made[1]
    assert not re.search(
        r"<(link|iframe|object|embed|base)\b|\b(src|href)=|url\(|@import", re.sub(r"&lt;.*?&gt;", "", text)
    )
    assert "@media (prefers-color-scheme: dark)" in text
    assert "color-scheme: light dark" in text
    assert '<meta name="viewport" content="width=device-width, initial-scale=1"/>' in text


def test_histograms_count_every_pair(made):
    card, text = made
    for side in ("train", "heldout"):
        for what, spread in card["lengths"][side].items():
            assert sum(spread["histogram"].values()) == card[side]["rows"]
            lengths = sorted(spread["quantiles"].values())
            assert lengths == list(spread["quantiles"].values())
            name = {"train": "Train", "heldout": "Held out"}[side]
            assert f'aria-label="{name}: {what}"' in text
    assert text.count("<rect ") == sum(
        len(spread["histogram"]) for side in card["lengths"].values() for spread in side.values()
    )
    longest = max(int(low) for low in card["lengths"]["train"]["chosen"]["histogram"])
    assert longest <= card["lengths"]["train"]["chosen"]["quantiles"]["1"] < 2 * longest


def test_the_page_says_what_the_card_says(made):
    card, text = made
    assert f"{card['train']['rows']:,} preference pairs, {card['heldout']['rows']:,} held out" in text
    assert "<td>tie</td><td>2</td>" in text
    assert "Judgements count half after 90 days" in text
    assert f"{card['raters']['pairs_of_several']:,} pairs were judged by several raters" in text
    assert (
        "Train and held-out share nothing; compared were conversations, clusters, and all texts with each other."
        in text
    )
    assert "No other set was named as sealed" in text


def test_a_card_of_many_texts_says_what_may_be_missed_and_a_sealed_set_what_was_dropped(made):
    card = json.loads(json.dumps(made[0]))
    card["duplicates"] |= {"missed_at_threshold": 3e-6, "comparisons_skipped": 12}
    card["leaks"]["sealed"] = {"exam<.heldout": 7}
    text = page(card)
    assert "misses one in 333,333 pairs of texts just at the threshold; 12 comparisons" in text
    assert "<td>exam&lt;.heldout</td><td>7</td>" in text
    assert "share nothing;" not in text
    assert "Train and held-out share nothing that was found, but not everything was compared" in text
    assert "with 12 comparisons of very common texts left out." in text
    assert "With sealed sets, too, not everything was compared." in text
