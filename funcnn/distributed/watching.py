"""A rank that is killed says nothing itself: a small process on its host says it.

``mpiexec`` of MPICH ends the other ranks at once, and names the process that it missed, but no rank.
Each rank keeps a connection to the watcher of its host, and takes leave before it ends.
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
import selectors, socket, sys
handle, count, ranks, host = sys.argv[1:]
server, who = socket.socket(fileno=int(handle)), {}
server.settimeout(60)
some = selectors.DefaultSelector()  # of Linux and macOS: tells what came in the order of its coming
for _ in range(int(count)):
    line = server.accept()[0]
    who[line] = int.from_bytes(line.recv(4), "big")
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
            print(f"funcnn: rank {rank} of {ranks} on {host} has died", file=sys.stderr, flush=True)
        if said != b"g":
            sys.exit()
"""


def is_needed() -> bool:
    """Whether it was MPICH's own launcher that has started this process: others name the rank."""
    return "PMI_RANK" in os.environ and "SLURM_PROCID" not in os.environ


def watch(comm: Any) -> socket.socket | None:
    """Have this rank watched, as all others are; without a network, nobody is."""
    host, port = platform.node(), 0
    hosts = comm.allgather(host)
    if hosts.index(host) == comm.rank:
        with suppress(OSError), socket.create_server(("127.0.0.1", 0)) as server:
            server.listen(hosts.count(host))
            told = map(str, (server.fileno(), hosts.count(host), comm.size, host))
            command = [sys.executable, "-I", "-S", "-c", _PROGRAM, *told]
            quiet = subprocess.DEVNULL
            subprocess.Popen(
                command, pass_fds=[server.fileno()], start_new_session=True, stdin=quiet, stdout=quiet
            )
            port = server.getsockname()[1]
    port = comm.allgather(port)[hosts.index(host)]
    with suppress(OSError):
        line = socket.create_connection(("127.0.0.1", port), timeout=10)
        line.sendall(comm.rank.to_bytes(4, "big"))
        line.recv(1)  # the watcher has begun: whoever dies now dies in its sight
        atexit.register(say, line, GOING)
        return line
    return None


def say(line: socket.socket | None, word: bytes) -> None:
    """Tell the watcher that what happens now is meant to."""
    if line is not None:
        with suppress(OSError):
            line.sendall(word)
