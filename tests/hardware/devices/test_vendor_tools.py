"""The makers' tools: programs on PATH that print what the real ones print, or misbehave."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aifw.hardware.devices.vendor_output import ToolDevice, parse_amd_smi, parse_nvidia_smi, parse_rocm_smi
from aifw.hardware.devices.vendor_tools import ToolAnswers, ask_tools

MIB = 1024**2
Install = Callable[..., None]

NVIDIA = """\
00000000:01:00.0, NVIDIA GeForce RTX 5090, 610.43.02, 32607, 1034, 97
00000000:06:00.0, NVIDIA Test, Engineering GPU, 610.43.02, 10240, [N/A], [Not Supported]
"""
AMD_STATIC = [
    {
        "gpu": 0,
        "asic": {"market_name": "AMD Radeon RX 7900 XTX", "vendor_id": "0x1002", "asic_serial": "0x0123456789ABCDEF"},
        "bus": {"bdf": "0000:03:00.0", "max_pcie_width": 16},
        "driver": {"name": "amdgpu", "version": "6.10.5"},
        "vram": {"type": "GDDR6", "vendor": "HYNIX", "size": {"value": 24560, "unit": "MB"}},
    },
    {"gpu": 1, "asic": {"market_name": "N/A"}, "bus": {"bdf": "0000:16:00.0"}, "vram": {"size": "N/A"}},
]
AMD_METRIC = {
    "gpu_data": [
        {
            "gpu": 0,
            "usage": {"gfx_activity": {"value": 94, "unit": "%"}, "umc_activity": "N/A"},
            "mem_usage": {"total_vram": {"value": 24560, "unit": "MB"}, "used_vram": {"value": 17153, "unit": "MB"}},
        },
        {"gpu": 1, "usage": "N/A", "mem_usage": {"used_vram": "N/A"}},
    ]
}
ROCM = {
    "card0": {
        "GPU use (%)": "88",
        "VRAM Total Memory (B)": "25753026560",
        "VRAM Total Used Memory (B)": "12000000000",
        "PCI Bus": "0000:03:00.0",
        "Card Series": "Radeon RX 7900 XTX",
    },
    "card1": {"Card series": "AMD Instinct MI210", "VRAM Total Memory (B)": "0"},
    "system": {"Driver version": "6.10.5"},
}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts programs on PATH, and nothing else is there."""
    monkeypatch.setenv("PATH", f"{tmp_path}")

    def programs(**sources: str) -> None:
        for name, source in sources.items():
            path = tmp_path / name.replace("_", "-")
            path.write_text(f"#!{sys.executable} -I\nimport os, sys, time\n{source}\n")
            path.chmod(0o755)

    return programs


def prints(output: str) -> str:
    return f"print({output!r})"


def test_without_tools_nothing_is_said_and_nothing_is_wrong(install: Install) -> None:
    assert ask_tools() == ToolAnswers()


def test_nvidia_smi(install: Install) -> None:
    install(nvidia_smi=prints(NVIDIA))
    assert ask_tools() == ToolAnswers(
        (
            ToolDevice(
                "nvidia-smi", "0000:01:00.0", "NVIDIA GeForce RTX 5090", "610.43.02", 32607 * MIB, 1034 * MIB, 97.0
            ),
            ToolDevice("nvidia-smi", "0000:06:00.0", "NVIDIA Test, Engineering GPU", "610.43.02", 10240 * MIB),
        )
    )


def test_amd_smi_is_asked_twice(install: Install) -> None:
    static, metric = (
        f"WARNING: User is missing the following required groups: render\n{json.dumps(data)}"
        for data in (AMD_STATIC, AMD_METRIC)
    )
    install(amd_smi=f"print({static!r} if 'static' in sys.argv else {metric!r})", rocm_smi="sys.exit(9)")
    assert ask_tools() == ToolAnswers(
        (
            ToolDevice("amd-smi", "0000:03:00.0", "AMD Radeon RX 7900 XTX", "6.10.5", 24560 * MIB, 17153 * MIB, 94.0),
            ToolDevice("amd-smi", "0000:16:00.0"),
        )
    )


def test_rocm_smi_where_amd_smi_fails(install: Install) -> None:
    install(amd_smi="sys.exit('no driver')", rocm_smi=prints(json.dumps(ROCM, indent=4)))
    found = ask_tools()
    assert found.unknown == ("amd-smi: it ended with 1 and said: no driver",)
    assert found.devices == (
        ToolDevice("rocm-smi", "0000:03:00.0", "Radeon RX 7900 XTX", "6.10.5", 25753026560, 12000000000, 88.0),
        ToolDevice("rocm-smi", "", "AMD Instinct MI210", "6.10.5"),
    )


def test_a_driver_that_is_not_there(install: Install) -> None:
    said = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    install(nvidia_smi=f"print({said!r}); sys.exit(9)")
    assert ask_tools() == ToolAnswers((), (f"nvidia-smi: it ended with 9 and said: {said}",))


def test_what_a_tool_said_before_it_failed_is_kept(install: Install) -> None:
    output = f"Unable to determine the device handle for GPU1: 0000:04:00.0: Unknown Error\n{NVIDIA}"
    install(nvidia_smi=f"print({output!r}); sys.exit(15)")
    found = ask_tools()
    assert [each.address for each in found.devices] == ["0000:01:00.0", "0000:06:00.0"]
    assert found.unknown[0].startswith("nvidia-smi: it ended with 15 and said: Unable to determine")


def test_a_tool_that_hangs_is_ended_with_its_children(install: Install, tmp_path: Path) -> None:
    child = tmp_path / "child"
    install(rocm_smi=prints(json.dumps(ROCM)))
    path = tmp_path / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n/bin/sleep 600 &\necho $$ $! > {child}\nwait\n")
    path.chmod(0o755)
    found = ask_tools(timeout_seconds=2.0)
    assert found.unknown == ("nvidia-smi: it did not answer within 2 s",)
    assert len(found.devices) == 2
    processes = [int(word) for word in child.read_text().split()]
    assert len(processes) == 2
    while any(_runs(process) for process in processes):
        time.sleep(0.01)


def _runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


def test_a_child_that_keeps_the_output_open_does_not_hold_us(install: Install, tmp_path: Path) -> None:
    child, lines = tmp_path / "child", tmp_path / "lines"
    lines.write_text(NVIDIA)
    path = tmp_path / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n/bin/cat {lines}\n/bin/sleep 600 &\necho $! > {child}\n")
    path.chmod(0o755)
    assert len(ask_tools(timeout_seconds=60).devices) == 2
    process = int(child.read_text())
    assert _runs(process)
    os.kill(process, signal.SIGKILL)


def test_a_tool_that_cannot_be_started(install: Install, tmp_path: Path) -> None:
    path = tmp_path / "nvidia-smi"
    path.write_text("#!/nonexistent/interpreter\n")
    path.chmod(0o755)
    (reason,) = ask_tools().unknown
    assert reason.startswith("nvidia-smi: it cannot be started: ")


@pytest.mark.parametrize(
    "output", ["", "\x1b[31mgarbage\x00", "[" * 5000, '{"card0": 7}', "[1, 2]", "null", "a,b,c,d,e,f"]
)
@pytest.mark.parametrize("name", ["nvidia_smi", "amd_smi", "rocm_smi"])
def test_answers_nobody_understands_are_a_finding(name: str, output: str, install: Install) -> None:
    install(**{name: prints(output)})
    found = ask_tools()
    assert found.devices == ()
    assert len(found.unknown) == 1
    assert found.unknown[0].isprintable()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "gpu_data",
                    "card0",
                    "system",
                    "bus",
                    "bdf",
                    "asic",
                    "market_name",
                    "vram",
                    "size",
                    "value",
                    "unit",
                    "mem_usage",
                    "used_vram",
                    "PCI Bus",
                ]
            ),
            inside,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    st.one_of(st.text(), json_values.map(json.dumps), json_values.map(lambda value: f"WARNING\n{json.dumps(value)}"))
)
def test_whatever_they_print_there_is_an_answer(output: str) -> None:
    for parse in (parse_nvidia_smi, parse_amd_smi, parse_rocm_smi):
        for device in parse(output):
            assert all(text.isprintable() for text in (device.address, device.name, device.driver))
            assert device.memory is None or device.memory > 0
            assert device.busy is None or 0 <= device.busy <= 100
