"""The accelerators of a machine: GPUs, NPUs and neural compute sticks, from /proc and /sys only.

Names are those a spec uses: `xpu:N` for Intel's GPUs in the kernel's order, `cuda:N` for those of NVIDIA and AMD (ROCm's PyTorch
calls them so too), `npu`, `ncs2`; of several NPUs or sticks the second is `npu:1`, `ncs2:1`.
"""

from __future__ import annotations

from pathlib import Path

from aifw.hardware.findings import DeviceDetail, entries, properties
from aifw.hardware.machine import Accelerator

__all__ = ["DeviceDetail", "accelerators", "describe_accelerators"]


def accelerators(root: Path = Path("/")) -> tuple[Accelerator, ...]:
    """What is there, as far as planning needs it. Whatever the files hold, there is an answer.

    Args:
        root: Where `proc` and `sys` are.
    """
    found: list[Accelerator] = []
    for folder, prefix, name, what in (("drm", "renderD", "xpu", "GPU"), ("accel", "accel", "npu", "NPU")):
        names, _ = entries(f"{root}/sys/class/{folder}")
        told = [properties(f"{root}/sys/class/{folder}/{node}/device") for node in names if node.startswith(prefix)]
        intel = [facts for facts in told if facts.get("PCI_ID", "").startswith("8086:")]
        found += [
            Accelerator(
                name=name if name == "npu" and not index else f"{name}:{index}",
                what=f"Intel {what} {facts['PCI_ID']}",
                driver=facts.get("DRIVER", "unknown"),
                kind="npu" if name == "npu" else "integrated_gpu",
            )
            for index, facts in enumerate(intel)
        ]
    return tuple(found)


def describe_accelerators(root: Path = Path("/")) -> tuple[DeviceDetail, ...]:
    """Everything that can be read of each, for `aifw hardware`. Whatever the files hold, there is an answer.

    Args:
        root: Where `proc` and `sys` are.
    """
    return tuple(DeviceDetail(each) for each in accelerators(root))
