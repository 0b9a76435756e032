"""Stacks of a profile, as two profilers write them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

PACKAGES: Final = ("raftgroup", "primitives", "router", "shards", "ops", "bench")
_ROOT: Final = Path(__file__).resolve().parents[2]
_SPY_FRAME: Final = re.compile(r"(?P<name>.*) \((?P<place>[^()]*)\)")
_PERF_FRAME: Final = re.compile(r"\s+[0-9a-f]+ (?P<name>.*) \((?P<place>.*)\)$")
_PERF_HEAD: Final = re.compile(r"(?P<comm>\S.*?)\s+(?P<pid>\d+)/(?P<tid>\d+)\s*$")
_COMPILED: Final = re.compile(r"CPy(?:Def|Py|Gen)_(?P<name>.*)")
_KERNEL: Final = "[kernel"
_KERNEL_PLACE: Final = "[kernel]"
_LIBRARY: Final = re.compile(r"(\.cpython-.*)?(\.abi3)?\.so(\.[\d.]+)?$")
_WAITS: Final = frozenset({
    "epoll_wait", "epoll_pwait", "pthread_cond_wait", "pthread_cond_timedwait", "sem_wait", "sem_clockwait",
    "PyThread_acquire_lock_timed", "select", "poll",
})  # fmt: skip
"""Frames in which nothing runs: a profiler that stops the process to look finds it there."""
_NAMELESS: Final = ("0x", "[unknown]")
_OFFSET: Final = re.compile(r"\+0x[0-9a-f]+$")
_CALLS: Final = frozenset({
    "read", "readv", "write", "writev", "send", "sendto", "sendmsg", "recv", "recvfrom", "recvmsg",
    "epoll_ctl", "fdatasync", "fsync",
})  # fmt: skip
"""Of the C library, into the system, as far as a program that takes no locks spends time in them."""
_BETWEEN: Final = "___"
"""What mypyc writes for a dot."""


class Frame(NamedTuple):
    """One call."""

    name: str
    place: str
    """``shards/engine``, a module without its ending, or a library's name; ``[kernel]``."""

    def __str__(self) -> str:
        return f"{self.name} ({self.place})"

    @property
    def is_kernel(self) -> bool:
        """Whether it runs in the system."""
        return self.place.startswith(_KERNEL)


Stack = tuple[Frame, ...]
"""From the outermost call to the innermost."""
Profile = Counter[Stack]
"""How often each was seen."""


def of_spy(text: str) -> Profile:
    """Those that ``py-spy record -f raw`` wrote, without those that only wait."""
    found: Profile = Counter()
    for line in text.splitlines():
        calls, _, count = line.rpartition(" ")
        stack = _merged(_spied(call) for call in calls.split(";"))
        if stack and not _WAITS.intersection(frame.name for frame in stack[-3:]):
            inner = stack[-1]
            if inner.place.startswith("libc") and inner.name.lstrip("_").removeprefix("libc_") in _CALLS:
                stack = (*stack[:-1], Frame(inner.name, _KERNEL_PLACE))
            found[stack] += int(count)
    return found


def _spied(call: str) -> Frame:
    match = _SPY_FRAME.fullmatch(call)
    if match is None:
        return Frame(call, "")
    name, place = match["name"], match["place"].partition(":")[0]
    if place.endswith(".py"):
        return Frame(name, _module(place))
    return _native(name, place)


def of_perf(text: str) -> Mapping[int, Mapping[int, Profile]]:
    """Those that ``perf script -F comm,pid,tid,ip,sym,dso`` told, by process and thread."""
    found: dict[int, dict[int, Profile]] = {}
    for block in text.split("\n\n"):
        head, *lines = block.strip("\n").split("\n")
        match = _PERF_HEAD.match(head)
        if match is None:
            continue
        frames = [frame for line in lines if (frame := _PERF_FRAME.match(line))]
        stack = _merged(_native(frame["name"], frame["place"]) for frame in reversed(frames))
        threads = found.setdefault(int(match["pid"]), {})
        threads.setdefault(int(match["tid"]), Counter())[stack] += 1
    return found


def _native(name: str, place: str) -> Frame:
    """A frame of compiled code, which may have been Python."""
    name = _OFFSET.sub("", name)
    if place.startswith(_KERNEL):
        return Frame(name, _KERNEL_PLACE)
    if compiled := _COMPILED.match(name):
        return _compiled(compiled["name"])
    return Frame(name, _LIBRARY.sub("", Path(place).name))


@cache
def _compiled(name: str) -> Frame:
    """A function that mypyc made of one of ours: ``engine___Engine___round`` is ``shards/engine``'s."""
    parts = name.split(_BETWEEN)
    if parts[0] in PACKAGES and len(parts) > 1:
        return Frame(".".join(parts[2:]), "/".join(parts[:2]))
    places = [f"{package}/{parts[0]}" for package in PACKAGES if _is_module(package, parts[0])]
    compiled = [place for place in places if any(any(home.glob(f"{place}.*.so")) for home in _homes())]
    return Frame(".".join(parts[1:]), next(iter(compiled or places), parts[0]))


def _is_module(package: str, name: str) -> bool:
    return any((home / package / f"{name}.py").is_file() for home in _homes())


@cache
def _homes() -> tuple[Path, ...]:
    """Where our packages are."""
    import primitives

    return (_ROOT, Path(primitives.__file__).resolve().parents[1])


def _module(path: str) -> str:
    """A source file without its ending, from its package on."""
    parts = Path(path).with_suffix("").parts
    for at in range(len(parts) - 1, -1, -1):
        if parts[at] in PACKAGES:
            return "/".join(parts[at:])
    return "/".join(part for part in parts if part != "/").rpartition("site-packages/")[2]


def _merged(frames: Iterable[Frame]) -> Stack:
    """Without repetitions of one and the same, a compiled function and what converts its arguments, and
    without what has no name."""
    found: list[Frame] = []
    for frame in frames:
        if not frame.name.startswith(_NAMELESS) and (not found or found[-1] != frame):
            found.append(frame)
    return tuple(found)


def collapsed(profile: Profile) -> str:
    """One line for each stack, as flame graph programs read it."""
    lines = (f"{';'.join(map(str, stack))} {count}" for stack, count in sorted(profile.items()))
    return "".join(f"{line}\n" for line in lines)
