"""`aifw plan` as a person or a pipe sees it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from aifw.plan import planfile

Golden = Callable[..., None]


def test_first_plan_creates_everything(shell: Any, golden: Golden) -> None:
    golden("plan_first", _anywhere(shell.aifw("plan").out))


def test_plan_after_a_change_says_which_setting_and_what_may_follow(shell: Any, golden: Golden) -> None:
    shell.aifw("apply")
    golden("plan_change", _anywhere(_without_figures(shell.aifw("plan", "--set", "stages.b.text=moon").out)))


def _anywhere(text: str) -> str:
    """Where jobs are put differs between machines."""
    text = re.sub(r"(?<= )(?:cpu|[EP]-cores)(?= )", "PLACE", text)
    return re.sub(r"(?<=\S)  +", "  ", text)


def _without_figures(text: str) -> str:
    """What earlier runs took corrects forecasts, and they never take the same twice."""
    head, _, rest = text.partition("\n")
    for unit, word in (("[KMG]iB", "SIZE"), ("(?:ms|s)", "TIME")):
        rest = re.sub(rf"(?:[\d.]+(?: {unit})?\N{{EN DASH}})?[\d.]+ {unit}\b", word, rest)
    return f"{head}\n{re.sub('SIZE at .*? ·', 'SIZE at RESOURCE ·', rest)}"


def test_plan_with_nothing_to_do(shell: Any, golden: Golden) -> None:
    shell.aifw("apply")
    golden("plan_nothing", shell.aifw("plan").out)
    assert shell.aifw("plan").out == shell.aifw("plan").out


def test_many_unchanged_resources_are_only_counted_unless_asked_for(shell: Any) -> None:
    shell.write("stages:\n" + "".join(f"  s{index}: {{kind: toy, text: t{index}}}\n" for index in range(8)))
    shell.aifw("apply")
    short, full = shell.aifw("plan").out, shell.aifw("plan", "--all").out
    assert "stages.s3" not in short
    assert "Nothing to do: 8 unchanged." in short
    assert "stages.s3" in full
    assert " = 7 unchanged (--all shows them)" in shell.aifw("plan", "--replace", "s1").out


def test_json_is_the_document_of_a_plan_file(shell: Any) -> None:
    shell.aifw("plan", "-o", "next.aifwplan")
    printed = json.loads(shell.aifw("plan", "--json").out)
    saved = planfile.load(shell.folder / "next.aifwplan")
    assert printed == saved
    assert saved["source"] == {"files": ["spec.yaml"], "sets": []}
    assert {step["address"]: step["action"] for step in printed["steps"]}["stages.a"] == "create"


def test_a_plan_file_elsewhere_names_its_spec_from_there(shell: Any) -> None:
    (shell.folder / "plans").mkdir()
    shell.aifw("plan", "-o", "plans/next.aifwplan", "--set", "stages.a.text=bye")
    saved = planfile.load(shell.folder / "plans/next.aifwplan")
    assert saved["source"] == {"files": ["../spec.yaml"], "sets": ["stages.a.text=bye"]}


def test_a_plan_file_that_could_not_be_applied_is_not_written(shell: Any) -> None:
    named = shell.aifw("plan", "-o", "next.json", status=64)
    assert "next.aifwplan" in named.err
    assert not (shell.folder / "next.json").exists()
    lost = shell.aifw("plan", "-o", "nowhere/next.aifwplan", status=64)
    assert "next.aifwplan: No such file or directory" in lost.err


def test_detailed_exit_code_tells_whether_there_is_something_to_do(shell: Any) -> None:
    assert shell.aifw("plan", "--detailed-exitcode", status=2)
    shell.aifw("apply")
    assert shell.aifw("plan", "--detailed-exitcode", status=0)


def test_targets_and_replacements_take_plain_names(shell: Any) -> None:
    out = shell.aifw("plan", "--target", "b").out
    assert "stages.b" in out
    assert "stages.c" not in out
    shell.aifw("apply")
    out = shell.aifw("plan", "--replace", "p").out
    assert "asked for with --replace" in out


def test_explain_shows_reasons_inputs_forecast_and_identity(shell: Any, golden: Golden) -> None:
    out = shell.aifw("plan", "--explain", "stages.b").out
    golden("plan_explain", re.sub(r"^(  (?:place|next best|computes) +).*$", r"\1...", out, flags=re.MULTILINE))


def test_a_wrong_name_is_answered_with_what_was_meant(shell: Any) -> None:
    shell.write("stages:\n  train: {kind: toy}\n")
    for option in ("--target", "--replace", "--explain"):
        err = shell.aifw("plan", option, "stages.trian", status=64).err
        assert "there is no resource `stages.trian`" in err
        assert "did you mean `stages.train`?" in err


def test_a_broken_spec_is_refused_with_its_place(shell: Any) -> None:
    shell.write("stages:\n  a: {kind: toy, tekst: hello}\n")
    err = shell.aifw("plan", status=3).err
    assert "spec.yaml:6:" in err
    assert "did you mean `text`?" in err


def test_removed_resources_are_forgotten(shell: Any) -> None:
    shell.aifw("apply")
    shell.write("stages:\n  a: {kind: toy, text: hello}\n")
    out = shell.aifw("plan").out
    assert "4 to forget, 1 unchanged." in out
    assert "no longer in the spec" in out


def test_hints_repeat_how_the_spec_was_named(shell: Any) -> None:
    (shell.folder / "spec.yaml").rename(shell.folder / "my spec.yaml")
    out = shell.aifw("plan", "my spec.yaml", "--set", "stages.a.text=bye").out
    assert "Apply: aifw apply 'my spec.yaml' --set stages.a.text=bye" in out


def test_a_pipe_gets_no_colour(shell: Any) -> None:
    process = shell.start("plan")
    out, _ = process.communicate(timeout=60)
    assert b"\x1b" not in out
    assert b"Peak" in out


def test_a_plan_with_nothing_to_do_imports_neither_pydantic_nor_yaml(shell: Any) -> None:
    shell.aifw("apply")
    code = (
        "import sys\n"
        "from aifw.cli.main import main\n"
        "main.main(['plan'], standalone_mode=False)\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}"
        " & {'pydantic', 'yaml', 'rich', 'torch', 'numpy', 'sqlalchemy', 'asyncio', 'omegaconf'}))\n"
    )
    command = [sys.executable, "-c", code]
    seen = [
        subprocess.run(command, cwd=shell.folder, env=shell.environment, capture_output=True, check=True, text=True)
        for _ in range(2)
    ]
    assert seen[0].stdout.splitlines()[:-1] == seen[1].stdout.splitlines()[:-1]
    assert seen[0].stdout.splitlines()[-1] == "['pydantic', 'yaml']"
    assert seen[1].stdout.splitlines()[-1] == "[]"
