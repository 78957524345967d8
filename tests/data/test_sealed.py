import hashlib
import json
from dataclasses import replace

import pytest

from aifw.data.sealed import check_sealed, read_texts, touching
from aifw.data.text_table import TextTable
from aifw.errors import InputInvalid, SealedDataLeaked


def row(number, **changed):
    word = hashlib.sha256(str(number).encode()).hexdigest()
    base = {
        "id": f"{number:016x}",
        "group": f"{number:016x}",
        "prompt": [{"role": "user", "content": f"What should be done about {word}?"}],
        "chosen": f"Divide {word[::-1]} by nine and round it down.",
        "rejected": f"Nobody knows {word[::2]}, nor what {word[1::2]} is good for.",
        "confidence": 0.8,
        "source": "comparison",
    }
    return base | changed


def written(folder, rows):
    folder.mkdir()
    (folder / "pairs.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return folder


def test_sets_that_share_nothing_pass(tmp_path):
    train = written(tmp_path / "train", [row(number) for number in range(1, 50)])
    sealed = written(tmp_path / "sealed", [row(number) for number in range(50, 80)])
    assert check_sealed(train, {"other.heldout": sealed}, scratch=tmp_path) == 49
    assert {path.name for path in tmp_path.iterdir()} == {"train", "sealed"}


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": row(60)["prompt"]},
        {"prompt": [{"role": "user", "content": row(60)["prompt"][0]["content"].upper() + "!"}]},
        {"chosen": row(60)["rejected"]},
        {"rejected": row(60)["chosen"].replace("round", "rounds")},
    ],
)
def test_one_shared_text_is_enough(tmp_path, changed):
    train = written(tmp_path / "train", [row(1), row(2, **changed), row(3)])
    sealed = written(tmp_path / "sealed", [row(60), row(61)])
    far = written(tmp_path / "far", [row(70)])
    with pytest.raises(SealedDataLeaked, match=r"of 3 training pairs .* 80% or more: 1 with the exam;") as caught:
        check_sealed(train, {"the exam": sealed, "far": far})
    assert caught.value.code == "AIFW505"


def test_the_threshold_says_how_near_is_too_near(tmp_path):
    train = written(tmp_path / "train", [row(1, chosen=row(60)["chosen"].replace("nine", "seven"))])
    sealed = written(tmp_path / "sealed", [row(60)])
    assert check_sealed(train, {"sealed": sealed}, threshold=0.95) == 1
    with pytest.raises(SealedDataLeaked):
        check_sealed(train, {"sealed": sealed}, threshold=0.6)


def test_it_says_where_not_everything_was_compared(tmp_path, monkeypatch):
    train = written(tmp_path / "train", [row(1)])
    sealed = {"exam": written(tmp_path / "sealed", [row(60)]), "other": written(tmp_path / "other", [row(61)])}
    notes = []
    check_sealed(train, sealed, note=notes.append)
    assert notes == []
    really = TextTable.clusters
    monkeypatch.setattr(TextTable, "clusters", lambda *given, **more: replace(really(*given, **more), skipped=700))
    check_sealed(train, sealed, note=notes.append)
    touching(read_texts(train), sealed, note=notes.append)
    said = "not everything was compared with exam and other: 1,400 comparisons of very common texts were left out"
    assert notes == [said, said]


def test_a_broken_row_is_named(tmp_path):
    train = written(tmp_path / "train", [row(1)])
    sealed = written(tmp_path / "sealed", [row(60), {"id": "x"}])
    with pytest.raises(InputInvalid, match=r"pairs\.jsonl:2: not a preference pair"):
        check_sealed(train, {"sealed": sealed})
    with pytest.raises(InputInvalid, match="cannot be read"):
        check_sealed(tmp_path, {"sealed": train})
