"""`aifw rollback` and `aifw release`."""

from __future__ import annotations

import json
import re
from typing import Any


def test_rollback_and_release_by_label_digest_and_all(shell: Any) -> None:
    shell.aifw("apply")
    out = shell.aifw("rollback", "@best").out
    match = re.match(r"best: (c@\w{4}) → (a@\w{4})   [\d.]+ m?s\n", out)
    assert match is not None, out
    assert f"`aifw release {match[1]}`" in out
    assert f"{match[1]} is in quarantine: rolled back from best" in shell.aifw("status").out
    assert "`aifw release` lets it be promoted again" in shell.aifw("plan").out
    assert f"{match[1]} may be promoted again" in shell.aifw("release", match[1]).out
    assert "best moves: longer" in shell.aifw("plan").out
    assert f"best: {match[2]} → {match[1]}" in shell.aifw("apply").out

    document = json.loads(shell.aifw("rollback", "best", "--json").out)
    assert document["before"] == match[1]
    released = json.loads(shell.aifw("release", document["quarantined"][:10], "--json").out)
    assert released == {"released": [document["quarantined"]]}


def test_what_cannot_be_rolled_back_or_released_is_said(shell: Any) -> None:
    shell.write("stages:\n  a: {kind: toy}\naliases: {best: {initial: a}}\n")
    shell.aifw("apply")
    assert "has pointed to nothing else" in shell.aifw("rollback", "best", status=64).err
    assert "aliases: best" in shell.aifw("rollback", "bets", status=64).err
    assert "in quarantine: nothing" in shell.aifw("release", "all", status=64).err
