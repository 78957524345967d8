"""Applies a spec in a process of its own, for tests that kill it: `python drive.py SPEC STATE [--replace ADDRESS] [--delete]`.

`--hasty` shortens the waits between decisions about memory; `--memory FILE` takes what can be had from a file, in bytes.

Prints one JSON object: the exit status, what became of each resource, and whether a plan made afterwards is empty.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from aifw.errors import AifwError
from aifw.run import pool, pressure
from aifw.run.apply import Request, apply
from aifw.run.planning import make_plan
from aifw.spec.load import load
from aifw.state.layout import Layout


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("spec", type=Path)
    parser.add_argument("state", type=Path)
    parser.add_argument("--replace", nargs="*", default=[])
    parser.add_argument("--delete", action="store_true")
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--hasty", action="store_true")
    parser.add_argument("--memory", type=Path)
    arguments = parser.parse_args()
    if arguments.hasty:
        pressure._CALM_SECONDS = pressure._SETTLE_SECONDS = 0.5
    if arguments.memory is not None:
        pool.available = lambda: int(arguments.memory.read_text())
    try:
        spec = load([arguments.spec])
        layout = Layout(arguments.state, spec.name)
        if arguments.plan:
            plan = make_plan(spec, layout)
            print(
                json.dumps(
                    {"steps": {step.address: [step.action, [r.text for r in step.reasons]] for step in plan.steps}}
                )
            )
            return 0
        request = Request(replaced=arguments.replace, allow_delete=arguments.delete)
        outcome = apply(spec, layout, request, lambda _: None, lambda _: True)
        assert outcome is not None
        left = make_plan(spec, layout)
    except AifwError as error:
        print(json.dumps({"error": error.code, "message": error.message}))
        return int(error.exit_status)
    print(
        json.dumps(
            {
                "exit": int(outcome.exit_status),
                "results": {address: result.status for address, result in outcome.results.items()},
                "errors": {address: result.error for address, result in outcome.results.items() if result.error},
                "empty": left.empty,
                "left": {step.address: step.action for step in left.changes},
            }
        )
    )
    return int(outcome.exit_status)


if __name__ == "__main__":
    sys.exit(main())
