"""NUMA nodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aifw.hardware.processor.numa import Node, find_nodes
from aifw.hardware.tree import Tree

NODE = "sys/devices/system/node/node0"
GOOD = {"cpulist": "0-3", "meminfo": "Node 0 MemTotal: 1000 kB\nNode 0 MemFree: 400 kB", "distance": "10"}


def test_two_sockets(captured: Callable[[str], Path]) -> None:
    found = find_nodes(Tree(captured("xeon-silver-4410y")))
    first, second = found.nodes
    assert first.processors == tuple(range(0, 48, 2))
    assert second.processors == tuple(range(1, 48, 2))
    assert (first.total, second.free) == (131701264 * 1024, 101711872 * 1024)
    assert (first.distances, second.distances) == ((10, 21), (21, 10))
    assert found.unknown == ()


def test_memory_without_processors(own_tree: Callable[..., Path]) -> None:
    files = {f"{NODE}/{name}": text for name, text in (GOOD | {"cpulist": ""}).items()}
    assert find_nodes(Tree(own_tree(files=files))).nodes == (Node(0, (), 1000 * 1024, 400 * 1024, (10,)),)


@pytest.mark.parametrize(
    ("file", "text", "node", "why"),
    [
        ("cpulist", "3-0", Node(0, None, 1024000, 409600, (10,)), "cpulist is no list of processors"),
        ("meminfo", "Node 0 MemTotal: x kB", Node(0, (0, 1, 2, 3), None, None, (10,)), "which is no number"),
        ("meminfo", f"Node 0 MemTotal: {2**63} kB", Node(0, (0, 1, 2, 3), None, None, (10,)), "which cannot be"),
        (
            "meminfo",
            "Node 0 MemTotal: 4 kB\nNode 0 MemFree: 5 kB",
            Node(0, (0, 1, 2, 3), 4096, None, (10,)),
            "says more than there is",
        ),
        ("distance", "10 20", Node(0, (0, 1, 2, 3), 1024000, 409600, None), "does not tell one for each node"),
        ("distance", "-1", Node(0, (0, 1, 2, 3), 1024000, 409600, None), "does not tell one for each node"),
        ("distance", "0", Node(0, (0, 1, 2, 3), 1024000, 409600, None), "does not tell one for each node"),
    ],
)
def test_absurd_values_are_unknown(own_tree: Callable[..., Path], file: str, text: str, node: Node, why: str) -> None:
    found = find_nodes(Tree(own_tree(files={f"{NODE}/{name}": told for name, told in (GOOD | {file: text}).items()})))
    assert found.nodes == (node,)
    assert any(why in each for each in found.unknown)


def test_without_nodes(tmp_path: Path) -> None:
    found = find_nodes(Tree(tmp_path))
    assert found.nodes == ()
    assert found.unknown == ("NUMA nodes are unknown: /sys/devices/system/node does not exist",)
