#!/usr/bin/env python3
"""Runs the kernels on processors that this machine need not be: under Bochs, in an image without an operating system.

python kernels/emulator/emulate.py [--model corei7_icelake_u] [--seed 1] [--rounds 40]

The image holds the very objects that the build makes and `compare.cpp`, which tests each usable table against the
scalar one. Needs CMake, g++, GNU binutils and Bochs (Debian, Ubuntu: apt install cmake g++ bochs); `bochs --help cpu`
lists the models.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).parent
KERNELS = HERE.parent
PARTS = ("dispatch", "scalar", "avx2", "avxvnni", "avx512", "avx512vnni")
FREESTANDING = ("-ffreestanding", "-fno-exceptions", "-fno-stack-protector")

SETTINGS = """\
cpu: model={model}, count=1, ips=500000000, reset_on_triple_fault=0
memory: guest=32, host=32
romimage: file={image}
com1: enabled=1, mode=file, dev={output}
log: {log}
panic: action=fatal
error: action=report
display_library: rfb, options="timeout=0"
clock: sync=none, time0=1
plugin_ctrl: speaker=0
"""


def _call(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        message = f"{shlex.join(map(str, command))}\n{done.stdout}{done.stderr}"
        raise RuntimeError(message)


def compile_commands(folder: Path) -> dict[str, list[str]]:
    """How the build compiles each file: compiler and options by the file's name without suffix.

    Raises:
        RuntimeError: CMake could not configure the build.
    """
    exports = ("-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", f"-DPython_EXECUTABLE={sys.executable}")
    _call("cmake", "-S", KERNELS, "-B", folder, *exports)
    commands = {}
    for entry in json.loads((folder / "compile_commands.json").read_text(encoding="utf-8")):
        command = shlex.split(entry["command"])
        commands[Path(entry["file"]).stem] = command[: command.index("-o")]
    return commands


def compile_file(command: Sequence[str], source: Path, target: Path) -> Path:
    """Compiles one file; `target` is returned.

    Raises:
        RuntimeError: It does not compile.
    """
    _call(*command, f"-I{KERNELS}", "-c", source, "-o", target)
    return target


def compile_parts(commands: Mapping[str, Sequence[str]], folder: Path, *, seed: int, rounds: int) -> dict[str, Path]:
    """Objects of the image by name: the kernels' as the build makes them, and those of the test program.

    Raises:
        RuntimeError: Something does not compile.
    """
    parts = {name: compile_file(commands[name], KERNELS / f"{name}.cpp", folder / f"{name}.o") for name in PARTS}
    plain = [*commands["scalar"], *FREESTANDING, f"-DSEED={seed}u", f"-DROUNDS={rounds}"]
    for name, suffix in {"boot": "S", "compare": "cpp", "machine": "cpp"}.items():
        parts[name] = compile_file(plain, HERE / f"{name}.{suffix}", folder / f"{name}.o")
    return parts


def link_image(parts: Mapping[str, Path], image: Path) -> Path:
    """Links the objects to a ROM image; `image` is returned.

    Raises:
        RuntimeError: They do not fit together.
    """
    linked = image.with_suffix(".elf")
    _call("ld", "-static", "-T", HERE / "image.ld", "-o", linked, *parts.values())
    _call("objcopy", "-O", "binary", "--gap-fill=0xff", linked, image)
    return image


def run(image: Path, model: str, seconds: float) -> str:
    """What the image says on its serial port until the machine is turned off.

    Raises:
        RuntimeError: The machine was not turned off by the program, or not within the time.
    """
    output, log, settings = (image.with_suffix(f".{model}.{suffix}") for suffix in ("out", "log", "settings"))
    output.touch()
    settings.write_text(SETTINGS.format(model=model, image=image, output=output, log=log), encoding="utf-8")
    try:
        done = subprocess.run(
            ["bochs", "-q", "-f", settings],
            input="continue\nquit\n",  # for a Bochs with its debugger, as Debian's is
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        message = f"{model}: not finished after {seconds} s. It said:\n{output.read_text(errors='replace')}"
        raise RuntimeError(message) from late
    said = output.read_text(errors="replace")
    if not said.endswith("complete\n"):
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-40:]) if log.exists() else done.stderr
        message = f"{model}: the program did not finish. It said:\n{said}\nBochs said:\n{tail}"
        raise RuntimeError(message)
    return said


def main() -> int:
    """Prints what the image says; 1 if a kernel differs from the scalar one."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="corei7_icelake_u", help="the processor")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40, help="random cases for each instruction set")
    parser.add_argument("--seconds", type=float, default=600, help="longest time to wait")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = compile_parts(compile_commands(folder / "build"), folder, seed=wanted.seed, rounds=wanted.rounds)
        said = run(link_image(parts, folder / "image.rom"), wanted.model, wanted.seconds)
    print(said, end="")
    return int(any(not line.endswith(" 0 differences") for line in said.splitlines() if "checks" in line))


if __name__ == "__main__":
    sys.exit(main())
