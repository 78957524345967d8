"""Secrets that were written in clear are not repeated in what is said about them."""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from aifw.settings import Secret, Settings
from aifw.spec.diagnose import SpecInvalid, as_github, as_json, as_text
from aifw.spec.load import load
from aifw.spec.mask import secret_paths

HEAD = "apiVersion: aifw/v1\nkind: Stack\nmetadata: {name: farm}\ndatasets: {a: {kind: field}}\nstages:\n"
CANARY = "canary-7f3a-horse"
pytestmark = pytest.mark.usefixtures("toy_farm")


def said(folder: Path, body: str, sets: Sequence[str] = ()) -> SpecInvalid:
    path = folder / "spec.yaml"
    path.write_text(HEAD + body, encoding="utf-8")
    with pytest.raises(SpecInvalid) as caught:
        load([path], sets, environment={"TOKEN": CANARY})
    return caught.value


def everything(invalid: SpecInvalid) -> str:
    found = invalid.diagnostics
    return "".join([str(invalid), repr(invalid.args), as_text(found), as_json(found), as_github(found), repr(found)])


IN_CLEAR = {
    "text": "  m: {kind: mill, from: a, token: CANARY}\n",
    "quoted": '  m: {kind: mill, from: a, token: "CANARY"}\n',
    "escaped": '  m: {kind: mill, from: a, token: "\\x63anary-7f3a-horse"}\n',
    "block": "  m:\n    kind: mill\n    from: a\n    token: |\n      CANARY\n      CANARY\n",
    "beside another error": "  m: {kind: mill, from: a, token: CANARY, passes: -1}\n",
    "as a name": "  m: {kind: mill, from: a, token: {CANARY}}\n",
    "as a name with a colon": "  m: {kind: mill, from: a, token: {env:CANARY}}\n",
    "as a variable": "  m: {kind: mill, from: a, token: {env: CANARY}}\n",
    "as a setting of its own": "  m: {kind: mill, from: a, token: {value: CANARY}}\n",
    "deeper": "  m: {kind: mill, from: a, token: {value: {is: [CANARY]}}}\n",
    "in a list": "  m: {kind: mill, from: a, token: [CANARY]}\n",
    "name misspelt": "  m: {kind: mill, from: a, tokn: CANARY}\n",
    "taken from elsewhere": '  m: {kind: mill, from: a, token: "${defaults.t}"}\ndefaults: {t: CANARY}\n',
    "taken twice": '  m: {kind: mill, from: a, token: "${defaults.u}"}\ndefaults: {t: CANARY, u: "${defaults.t}"}\n',
    "mapping taken": '  m: {kind: mill, from: a, token: "${defaults.t}"}\ndefaults: {t: {value: CANARY}}\n',
    "in part": '  m: {kind: mill, from: a, token: "${defaults.t}-horse"}\ndefaults: {t: canary-7f3a}\n',
    "beside nothing": '  m: {kind: mill, from: a, token: "CANARY${defaults.t}"}\n',
    "repeated": "  m: {kind: mill, from: a, names: [&x CANARY], token: *x}\n",
    "from the environment": '  m: {kind: mill, from: a, token: "${oc.env:TOKEN}"}\n',
    "long": '  m: {kind: mill, from: a, token: "${defaults.t}"}\ndefaults: {t: CANARYCANARYCANARYCANARYCANARYCANARY}\n',
}


@pytest.mark.parametrize("body", IN_CLEAR.values(), ids=IN_CLEAR)
def test_it_is_not_repeated(tmp_path: Path, body: str) -> None:
    invalid = said(tmp_path, body.replace("CANARY", CANARY))
    text = everything(invalid)
    assert "canary" not in text
    assert "7f3a" not in text
    for each in invalid.diagnostics:
        assert each.source is not None
        assert each.place.column - 1 + each.width <= max(len(each.source), each.place.column)


def test_what_stands_around_it_is_shown_and_the_caret_stays(tmp_path: Path) -> None:
    (one, two) = said(tmp_path, f"  m: {{kind: mill, from: a, token: {CANARY}, passes: -1}}\n").diagnostics
    assert one.message == "`token` must be `{env: NAME}` or `{file: PATH}`, never the secret itself"
    assert one.source == two.source == "  m: {kind: mill, from: a, token: " + "*" * len(CANARY) + ", passes: -1}"
    assert one.source[one.place.column - 1 :].startswith("*" * one.width)
    assert two.source[two.place.column - 1 :].startswith("-1")


def test_it_is_hidden_on_the_command_line_too(tmp_path: Path) -> None:
    (found,) = said(tmp_path, "  m: {kind: mill, from: a}\n", [f"stages.m.token={CANARY}"]).diagnostics
    assert found.place.file == found.source == "--set stages.m.token=" + "*" * len(CANARY)


def test_an_overlay_is_hidden_as_well(tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(HEAD + "  m: {kind: mill, from: a, token: {env: TOKEN}}\n")
    (tmp_path / "over.yaml").write_text(f"stages: {{m: {{token: {CANARY}}}}}\n")
    with pytest.raises(SpecInvalid) as caught:
        load([tmp_path / "spec.yaml", tmp_path / "over.yaml"])
    assert "over.yaml:1:21" in str(caught.value)
    assert CANARY not in everything(caught.value)


def test_names_of_variables_and_files_are_shown(tmp_path: Path) -> None:
    invalid = said(
        tmp_path,
        "  m: {kind: mill, from: a, token: {env: TOKEN}, passes: -1}\n"
        "  n: {kind: mill, from: a, token: {file: /run/token}, passes: -1}\n",
    )
    assert "{env: TOKEN}" in str(invalid)
    assert "{file: /run/token}" in str(invalid)
    assert "*" not in str(invalid)


def test_a_short_one_is_hidden_only_where_it_stands(tmp_path: Path) -> None:
    (found,) = said(tmp_path, "  m: {kind: mill, from: a, token: a}\n").diagnostics
    assert found.source == "  m: {kind: mill, from: a, token: *}"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
@given(
    secret=st.text(string.ascii_letters + string.digits + "-_!.:/+ #*&@%{[", min_size=8, max_size=90),
    form=st.sampled_from(["token: {}", "token: [{}]", "token: {{is: {}}}", "tokn: {}", "token: {}, passes: -1"]),
)
def test_no_secret_is_repeated(secret: str, form: str) -> None:
    secret = f"7Q{secret}7Q"
    with TemporaryDirectory() as folder:
        invalid = said(Path(folder), f"  m: {{kind: mill, from: a, {form.format(json.dumps(secret))}}}\n")
    assert secret not in str(invalid)
    assert secret not in as_json(invalid.diagnostics)
    assert secret not in as_github(invalid.diagnostics)
    assert "7Q" not in as_text(invalid.diagnostics)


class Account(Settings):
    name: str = ""
    password: Secret | None = None


class Accounts(Settings):
    first: Account = Account()
    others: list[Account] = []
    keys: dict[str, Secret] = {}
    either: Account | list[Secret] | None = None


def test_secrets_are_found_however_deep() -> None:
    wanted: type[BaseModel] = Accounts
    assert secret_paths(wanted) == (
        ("first", "password"),
        ("others", "*", "password"),
        ("keys", "*"),
        ("either", "password"),
        ("either", "*"),
    )
