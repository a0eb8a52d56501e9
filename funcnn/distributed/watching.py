"""A rank that is killed says nothing itself: a small process beside rank 0 says it.

``mpiexec`` of MPICH ends the other ranks at once, and names the process that it missed, but no rank;
``srun`` names the task, and lets the others wait. So each rank keeps a connection to the watcher, and
takes leave before it ends. The launcher of Open MPI does both itself.
"""

from __future__ import annotations

import atexit
import os
import platform
import socket
import subprocess
import sys
from contextlib import suppress
from typing import Any

GOING, ENDING = b"g", b"e"  # a rank is done; or it ends all others, and says why

_PROGRAM = """
import os, selectors, socket, subprocess, sys
handle, token, *hosts = sys.argv[1:]
server, who = socket.socket(fileno=int(handle)), {}
server.settimeout(10)
some = selectors.DefaultSelector()  # of Linux and macOS: tells what came in the order of its coming
while len(who) < len(hosts):
    try:
        line = server.accept()[0]
    except OSError:
        sys.exit()  # some rank cannot come here
    line.settimeout(5)
    try:
        said, rank = line.recv(64).decode().split()
    except (OSError, ValueError):
        continue
    if said == token:
        who[line] = int(rank)
        some.register(line, selectors.EVENT_READ)
for line in who:
    line.sendall(b"w")
while who:
    for line in [key.fileobj for key, _ in some.select()]:
        rank = who.pop(line)
        some.unregister(line)
        try:
            said = line.recv(1)
        except OSError:
            said = b""
        if not said:
            text = f"funcnn: rank {rank} of {len(hosts)} on {hosts[rank]} has died"
            print(text, file=sys.stderr, flush=True)
            job, step = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_STEP_ID")
            if job and step:
                subprocess.run(["scancel", "--signal=KILL", f"{job}.{step}"])
        if said != b"g":
            sys.exit()
"""


def is_needed() -> bool:
    """Whether it was MPICH's own launcher that has started this process, or ``srun``."""
    known = "PMI_RANK" in os.environ or "SLURM_PROCID" in os.environ
    return known and "OMPI_COMM_WORLD_RANK" not in os.environ


def watch(comm: Any) -> socket.socket | None:
    """Have this rank watched, as all others are; where one cannot reach the watcher, nobody is."""
    hosts, (port, token) = comm.allgather(platform.node()), (0, "")
    inside = len(set(hosts)) == 1
    if comm.rank == 0:
        token = os.urandom(8).hex()
        with suppress(OSError), socket.create_server(("127.0.0.1" if inside else "", 0)) as server:
            server.listen(comm.size)
            command = [sys.executable, "-I", "-S", "-c", _PROGRAM, str(server.fileno()), token, *hosts]
            quiet = subprocess.DEVNULL
            subprocess.Popen(
                command, pass_fds=[server.fileno()], start_new_session=True, stdin=quiet, stdout=quiet
            )
            port = server.getsockname()[1]
    port, token = comm.bcast((port, token))
    there = "127.0.0.1" if hosts[comm.rank] == hosts[0] else hosts[0]
    with suppress(OSError):
        line = socket.create_connection((there, port), timeout=10)
        line.sendall(f"{token} {comm.rank}".encode())
        line.recv(1)  # the watcher has begun: whoever dies now dies in its sight
        atexit.register(say, line, GOING)
        return line
    return None


def say(line: socket.socket | None, word: bytes) -> None:
    """Tell the watcher that what happens now is meant to."""
    if line is not None:
        with suppress(OSError):
            line.sendall(word)
