"""OpenVINO's names of devices and those of specs."""

from __future__ import annotations

import pytest

from aifw.hardware.libraries.openvino_devices import device_name, target_name


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("CPU", "cpu"),
        ("GPU", "xpu:0"),
        ("GPU.0", "xpu:0"),
        ("GPU.1", "xpu:1"),
        ("NPU", "npu"),
        ("NPU.3720", "npu"),
        ("MYRIAD.1.2-ma2480", "ncs2"),
        ("TEMPLATE", "template"),
    ],
)
def test_names(target: str, name: str) -> None:
    assert device_name(target) == name


def test_the_way_back() -> None:
    listed = ("CPU", "GPU.0", "GPU.1", "NPU")
    assert [target_name(name, listed) for name in ("cpu", "xpu:0", "xpu:1", "npu")] == list(listed)
    assert target_name("xpu:0", ("CPU", "GPU")) == "GPU"
    assert target_name("xpu:2", listed) is target_name("ncs2", listed) is target_name("cuda:0", listed) is None
