"""Runs one command and reports what the kernel says it used: `launcher.py DESCRIPTOR FOLDER PROGRAM ARGUMENTS...`.

A process inherits the peak memory of the one it was made from, so it is started from this small one and not from the benchmark.
"""

import os
import sys
import time


def main() -> None:
    descriptor, folder, program = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    os.set_inheritable(descriptor, False)
    os.chdir(folder)
    begun = time.perf_counter()
    pid = os.fork()
    if pid == 0:
        try:
            os.execv(program, sys.argv[3:])
        finally:
            os._exit(127)
    _, status, used = os.wait4(pid, 0)
    wall = time.perf_counter() - begun
    code = os.waitstatus_to_exitcode(status)
    os.write(descriptor, f"{code} {used.ru_utime + used.ru_stime} {wall} {used.ru_maxrss * 1024}".encode())


if __name__ == "__main__":
    main()
