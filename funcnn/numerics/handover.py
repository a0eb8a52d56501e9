"""The work of one kernel on several threads, handed over in machine code.

To wake a thread takes longer than a small kernel. So helpers stay awake for a while after their last
piece of work: without the interpreter's lock, they look at a channel, where whoever runs a kernel shows
its job. All who see it take pieces of a range until none is left; then its owner waits for those who
still work on theirs. A helper that comes late, or not at all, holds nobody up.

Parts of a range do not depend on each other: so who computed what does not show in results.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from funcnn.machine.threads import ask_helpers, bell, is_asked, processors, workers
from funcnn.numerics.jit import (
    _EXACTLY,
    _OPTIONS,
    Address,
    Kernel,
    Later,
    Table,
    address,
    inlined,
    intrinsic,
    kernel,
)
from funcnn.numerics.vectors import cgutils, ir, types

binding: Any = Later("llvmlite.binding")

# Measured in November 2026 on an AMD EPYC (Zen 4, two cores).
_MOST = 8  # threads, each with a processor: all of them look for a while, and more gain little
_PIECES = 4  # for each thread, so that nobody waits long for one who is held up
_PATIENCE = 1 << 15  # looks without work until a helper falls asleep, about a millisecond
_SPINS = 64  # looks, after which somebody else may have the processor
_JOB, _OWNED, _INSIDE, _YIELD = range(0, 64, 16)  # words of a channel, a cache line and more apart


class Divided(Kernel):
    """A kernel whose last two arguments are a range of parts that do not depend on each other."""

    divided = True

    def __init__(self, function: Callable[..., Any], options: dict[str, Any], least: int) -> None:
        super().__init__(function, options)
        is_numbers = next(iter(function.__annotations__.values())) == "In"
        self.least = least if is_numbers else 0  # of them: below, one thread does all of it

    def __call__(self, first: Any, *rest: Any) -> Any:
        function = self.by_dtype.get(first.dtype.char) or self.compile(first.dtype)
        threads = workers()
        if threads == 1 or first.size < self.least or rest[-1] - rest[-2] < 2:
            return function(first, *rest, 0, 1)
        threads = min(threads or _MOST, processors(), _MOST)
        if len(_channel.awake) < threads - 1:
            _channel.wake(threads - 1)
        return function(first, *rest, _channel.address, threads)


PART = 1 << 12  # numbers that are worth a thread, where each takes a nanosecond or less


def divided(function: Callable[..., None]) -> Kernel:
    """Compile a kernel whose parts the threads of the team in force share."""
    return Divided(function, _OPTIONS, PART)


def divided_exactly(function: Callable[..., None]) -> Kernel:
    """The same, each operation rounded as it stands."""
    return Divided(function, _EXACTLY, PART)


def divided_numbers(function: Callable[..., None]) -> Kernel:
    """The same, of a kernel that does not do much with each number of its first array."""
    return Divided(function, _OPTIONS, 2 * PART)


def tiles(runs: int, size: int) -> int:
    """How many pieces there are of runs of a size, if long ones are cut."""
    return runs * -(-size // PART)


@inlined
def tile(i: int, size: int) -> Any:
    """Which run the piece lies in, and where it begins and ends there."""
    pieces = -(-size // PART)
    start = i % pieces * PART
    return i // pieces, start, min(start + PART, size)


class _Channel:
    """Where jobs are shown, and the helpers who look at it."""

    def __init__(self) -> None:
        self.closed = False
        self.renew()

    def renew(self) -> None:
        """Begin with nobody: a forked child has none of its parent's threads."""
        self.words, self.awake = np.zeros(64, np.int64), [None][:0]
        self.words[_YIELD] = _yielding()
        self.address = address(self.words)

    def wake(self, helpers: int) -> None:
        """Let so many look, soon, unless somebody who was asked has yet to come."""
        _serve.compile(np.dtype(np.int64))
        if not is_asked() and not self.closed:
            awake = len(self.awake)
            ask_helpers(helpers - awake, lambda: self.listen, awake)

    def listen(self) -> None:
        """What a helper does: help, until there has been nothing to do, or there is another job."""
        self.awake.append(None)
        try:
            known = -1
            while known != bell[0] and not is_asked() and not self.closed:
                known = int(bell[0])
                if not is_asked() and not self.closed:
                    _serve(bell, self.address, address(bell), known, _PATIENCE)
        finally:
            self.awake.pop()

    def close(self) -> None:
        """Wait until nobody looks: at the end of a process, what they look at goes away."""
        self.closed = True
        while self.awake:
            bell[0] += 1
            time.sleep(1e-5)


def _yielding() -> int:
    """The address of the system's function that lets another thread have the processor."""
    if sys.platform == "win32":
        function = ctypes.windll.kernel32.SwitchToThread
    else:
        function = ctypes.CDLL(None).sched_yield
    return ctypes.cast(function, ctypes.c_void_p).value or 0


_channel = _Channel()
atexit.register(_channel.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_channel.renew)


# --- machine code ---------------------------------------------------------------------------------

_WORK, _TAKEN, _FIRST, _LAST, _COUNT, _ROOM, _FAILED, _LOW, _HIGH = range(9)  # a job begins with


class _Code:
    """Where code is added that works on a channel."""

    def __init__(self, builder: Any, channel: Any) -> None:
        self.builder, self.word, self.channel = builder, ir.IntType(64), channel

    def at(self, place: int, base: Any = None) -> Any:
        words = self.builder.inttoptr(self.channel if base is None else base, self.word.as_pointer())
        return self.builder.gep(words, [self.word(place)])

    def look(self, place: int) -> Any:
        return self.builder.load_atomic(self.at(place), "seq_cst", 8)

    def put(self, place: int, word: Any) -> None:
        self.builder.store_atomic(word, self.at(place), "seq_cst", 8)

    def add(self, number: int, place: int, base: Any = None) -> Any:
        """Add a number to a word, which was as the result says."""
        return self.builder.atomic_rmw("add", self.at(place, base), self.word(number), "seq_cst")

    def swap(self, place: int, old: Any, new: Any) -> Any:
        """Put a word in the place of another, if that is there, and say whether it was."""
        found = self.builder.cmpxchg(self.at(place), old, new, "seq_cst", "seq_cst")
        return self.builder.extract_value(found, 1)

    def rest(self, look: Any) -> None:
        """Pause after a look; after some, let others have the processor."""
        builder, nothing = self.builder, ir.FunctionType(ir.VoidType(), [])
        if binding.Target.from_default_triple().name.startswith("x86"):
            pause = cgutils.get_or_insert_function(builder.module, nothing, "llvm.x86.sse2.pause")
            builder.call(pause, [])
        turn = builder.icmp_signed("==", builder.srem(look, self.word(_SPINS)), self.word(_SPINS - 1))
        with builder.if_then(turn, likely=False):
            kind = ir.FunctionType(ir.IntType(32), []).as_pointer()
            builder.call(builder.inttoptr(builder.load(self.at(_YIELD)), kind), [])

    def until_alone(self) -> None:
        """Look until nobody is inside a job."""
        builder, count = self.builder, cgutils.alloca_once_value(self.builder, self.word(0))
        looking, resting, done = (builder.append_basic_block() for _ in range(3))
        builder.branch(looking)
        builder.position_at_end(looking)
        inside = self.look(_INSIDE)
        builder.cbranch(builder.icmp_signed("==", inside, self.word(0)), done, resting)
        builder.position_at_end(resting)
        self.rest(cgutils.increment_index(builder, builder.load(count)))
        builder.branch(looking)
        builder.position_at_end(done)


def _work_type() -> Any:
    """What does a job, given its address, its channel, and which end it takes pieces from."""
    word = ir.IntType(64)
    return ir.FunctionType(ir.VoidType(), [word, word, word])


def run_divided(entry: Any, run: Callable[[Any, list[Any]], Any]) -> Any:
    """Run a kernel with what its entry was given; the result says whether it failed.

    That ends with a range, a channel, or 0, and how many threads may work. ``run(builder,
    arguments)`` adds code that runs the kernel itself.
    """
    builder, word = entry.builder, ir.IntType(64)
    *given, low, high, channel, threads = entry.values
    head = [_work_type().as_pointer(), *[word] * _HIGH]
    kind = ir.LiteralStructType([*head, *(one.type for one in given)])
    job, code = cgutils.alloca_once(builder, kind), _Code(builder, channel)
    address = builder.ptrtoint(job, word)
    builder.store(word(0), code.at(_FAILED, address))
    owns = cgutils.alloca_once_value(builder, ir.IntType(1)(0))
    with builder.if_then(builder.icmp_signed("!=", channel, word(0))):
        builder.store(code.swap(_OWNED, word(0), word(1)), owns)
    with builder.if_else(builder.load(owns)) as (together, alone):
        with together:
            most, count = builder.mul(threads, word(_PIECES)), builder.sub(high, low)
            count = builder.select(builder.icmp_signed("<", count, most), count, most)
            work, room = _work(entry, kind, run), builder.sub(threads, word(1))
            for i, part in enumerate((work, *[word(0)] * 3, count, room, word(0), low, high, *given)):
                index = [ir.IntType(32)(0), ir.IntType(32)(i)]
                builder.store(part, builder.gep(job, index))
            code.put(_JOB, address)
            builder.call(work, [address, channel, word(_FIRST)])
            code.until_alone()
            code.put(_OWNED, word(0))
        with alone:
            wrong = run(builder, [*given, low, high])
            builder.store(builder.zext(wrong, word), code.at(_FAILED, address))
    return builder.icmp_signed("!=", builder.load(code.at(_FAILED, address)), word(0))


def _work(entry: Any, kind: Any, run: Callable[[Any, list[Any]], Any]) -> Any:
    """The function of a job: take pieces until none is left, and then nobody needs to see it.

    Its owner takes them from the first on, helpers from the last: what one kernel has written is then
    mostly in the cache of whoever reads it for another.
    """
    function = ir.Function(entry.module, _work_type(), f"{entry.module.name}.work")
    function.linkage = "internal"
    builder, word = ir.IRBuilder(function.append_basic_block()), ir.IntType(64)
    address, channel, end = function.args
    code, index = _Code(builder, channel), ir.IntType(32)
    job = builder.inttoptr(address, kind.as_pointer())
    parts = [builder.load(builder.gep(job, [index(0), index(i)])) for i in range(len(kind.elements))]
    count, low, high = parts[_COUNT], parts[_LOW], parts[_HIGH]
    taking, working, done = (function.append_basic_block() for _ in range(3))
    builder.branch(taking)
    builder.position_at_end(taking)
    taken = code.add(1, _TAKEN, address)
    builder.cbranch(builder.icmp_signed("<", taken, count), working, done)
    builder.position_at_end(working)
    own = builder.atomic_rmw("add", builder.gep(code.at(0, address), [end]), word(1), "seq_cst")
    from_last = builder.sub(builder.sub(count, word(1)), own)
    i = builder.select(builder.icmp_signed("==", end, word(_FIRST)), own, from_last)
    span, following = builder.sub(high, low), builder.add(i, word(1))
    begin, end = (builder.add(low, builder.sdiv(builder.mul(span, k), count)) for k in (i, following))
    wrong = run(builder, [*parts[_HIGH + 1 :], begin, end])
    with builder.if_then(wrong, likely=False):
        code.add(1, _FAILED, address)
    builder.branch(taking)
    builder.position_at_end(done)
    code.swap(_JOB, address, word(0))
    builder.ret_void()
    return function


@intrinsic
def _word(context: Any, place: Any) -> Any:
    """What another thread may change meanwhile."""
    signature = types.int64(place)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(builder.inttoptr(args[0], ir.IntType(64).as_pointer()), "seq_cst", 8)

    return signature, generate


@intrinsic
def _help(context: Any, channel: Any) -> Any:
    """Work on the job that is shown, if one is, and say whether."""
    signature = types.int64(channel)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code, word = _Code(builder, args[0]), ir.IntType(64)
        helped = cgutils.alloca_once_value(builder, word(0))
        with builder.if_then(builder.icmp_signed("!=", code.look(_JOB), word(0)), likely=False):
            code.add(1, _INSIDE)  # from now on, a job that is still shown stays where it is
            job = code.look(_JOB)
            with builder.if_then(builder.icmp_signed("!=", job, word(0))):
                has_room = builder.icmp_signed(">", code.add(-1, _ROOM, job), word(0))
                with builder.if_then(has_room):
                    kind = _work_type().as_pointer().as_pointer()
                    work = builder.load(builder.inttoptr(job, kind))
                    builder.call(work, [job, args[0], word(_LAST)])
                    builder.store(word(1), helped)
            code.add(-1, _INSIDE)
        return builder.load(helped)

    return signature, generate


@intrinsic
def _rest(context: Any, channel: Any, look: Any) -> Any:
    """Pause after a look."""
    signature = types.void(channel, look)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _Code(builder, args[0]).rest(args[1])
        return context.get_dummy_value()

    return signature, generate


@kernel
def _serve(nothing: Table, channel: Address, bell: Address, known: int, patience: int) -> None:
    """Help who shows a job, until there has been none for so many looks, or the bell has rung."""
    looks = 0
    while looks < patience and _word(bell) == known:
        looks += 1
        if _help(channel):
            looks = 0
        else:
            _rest(channel, looks)
