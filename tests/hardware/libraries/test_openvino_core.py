"""Signals still reach a process that has computed with OpenVINO."""

from __future__ import annotations

import subprocess
import sys

import pytest

_COMPUTES_AND_IS_ASKED_TO_STOP = """
import gc, os, signal
import numpy, openvino
from openvino import opset13 as ops
from aifw.hardware.libraries.openvino_core import shared_core

def compute(core):
    entry = ops.parameter([4, 64], openvino.Type.f32)
    product = ops.matmul(entry, ops.constant(numpy.ones((64, 64), numpy.float32)), False, False)
    compiled = core.compile_model(openvino.Model([product], [entry]), "CPU")
    compiled(numpy.ones((4, 64), numpy.float32))
    return compiled

for _ in range(3):
    compute(shared_core())
    # As libraries do, for the time of a call.
    other = openvino.Core()
    kept = compute(other)
    compute(shared_core())
    del kept, other
    gc.collect()
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append("asked to stop"))
os.kill(os.getpid(), signal.SIGTERM)
print(*heard)
"""


def test_a_signal_after_computing_is_handled() -> None:
    pytest.importorskip("openvino")
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", _COMPUTES_AND_IS_ASKED_TO_STOP],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "asked to stop\n"), done.stderr


def test_there_is_one() -> None:
    pytest.importorskip("openvino")
    from aifw.hardware.libraries.openvino_core import shared_core

    assert shared_core() is shared_core()
