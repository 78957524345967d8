"""Names of Intel's GPUs and NPUs by PCI device, where the public list of PCI ids and Intel's own leave no doubt."""

from __future__ import annotations

_GPUS = {
    "4680": "UHD Graphics 770 (Alder Lake)",
    "4682": "UHD Graphics 730 (Alder Lake)",
    "4688": "UHD Graphics 770 (Alder Lake)",
    "4690": "UHD Graphics 770 (Alder Lake)",
    "4692": "UHD Graphics 730 (Alder Lake)",
    "4693": "UHD Graphics 710 (Alder Lake)",
    "46A6": "Iris Xe Graphics (Alder Lake)",
    "46A8": "Iris Xe Graphics (Alder Lake)",
    "46D0": "UHD Graphics (Alder Lake-N)",
    "46D1": "UHD Graphics (Alder Lake-N)",
    "46D2": "UHD Graphics (Alder Lake-N)",
    "4905": "Iris Xe MAX Graphics",
    "5690": "Arc A770M",
    "5691": "Arc A730M",
    "5692": "Arc A550M",
    "5693": "Arc A370M",
    "5694": "Arc A350M",
    "5696": "Arc A570M",
    "5697": "Arc A530M",
    "56A0": "Arc A770",
    "56A1": "Arc A750",
    "56A2": "Arc A580",
    "56A5": "Arc A380",
    "56A6": "Arc A310",
    "56B1": "Arc Pro A40/A50",
    "56B3": "Arc Pro A60",
    "56C0": "Data Center GPU Flex 170",
    "56C1": "Data Center GPU Flex 140",
    "6420": "Graphics (Lunar Lake)",
    "64A0": "Arc Graphics 130V/140V (Lunar Lake)",
    "64B0": "Graphics (Lunar Lake)",
    "7D40": "Graphics (Meteor Lake)",
    "7D41": "Graphics (Arrow Lake)",
    "7D45": "Graphics (Meteor Lake)",
    "7D55": "Arc Graphics (Meteor Lake)",
    "7D67": "Graphics (Arrow Lake)",
    "7DD5": "Graphics (Meteor Lake)",
    "9A49": "Iris Xe Graphics (Tiger Lake)",
    "9A60": "UHD Graphics (Tiger Lake)",
    "A780": "UHD Graphics 770 (Raptor Lake)",
    "A7A0": "Iris Xe Graphics (Raptor Lake)",
    "A7A1": "Iris Xe Graphics (Raptor Lake)",
    "B080": "Arc B390 (Panther Lake)",
    "E20B": "Arc B580",
    "E20C": "Arc B570",
}
NPUS = {
    "8086:643E": "Lunar Lake",
    "8086:7D1D": "Meteor Lake",
    "8086:AD1D": "Arrow Lake",
    "8086:B03E": "Panther Lake",
    "8086:D71D": "Nova Lake",
    "8086:FD3E": "Wildcat Lake",
    "1022:1502": "Phoenix",
    "1022:17F0": "Strix",
}
"""Processors by the identity of their NPU (drivers/accel/ivpu/ivpu_drv.h, drivers/accel/amdxdna of the kernel)."""


def intel_gpu(identity: str) -> str:
    """`Intel Arc A770 8086:56A0`; `Intel GPU 8086:1234` where the name is not known."""
    return f"Intel {_GPUS.get(identity[5:], 'GPU')} {identity}"


def npu(identity: str) -> str:
    """`Intel NPU (Meteor Lake) 8086:7D1D`; without the processor where that is not known."""
    maker = "Intel" if identity.startswith("8086:") else "AMD"
    return f"{maker} NPU{f' ({NPUS[identity]})' if identity in NPUS else ''} {identity}"
