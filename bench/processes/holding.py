"""Holds every packet of a netfilter queue back for a while: a delay where the kernel has no ``netem``.

Runs in the namespace whose packets it delays, and says ``ready`` once the queue is its own. Packets that it
still has when it ends are lost.
"""

from __future__ import annotations

import argparse
import heapq
import select
import socket
import struct
import time
from random import Random
from typing import Final

_NETLINK_NETFILTER: Final = 12
_QUEUE_SUBSYSTEM: Final = 3 << 8
_PACKET, _VERDICT, _CONFIG = 0, 1, 2
_REQUEST, _ACK = 1, 4
_HEADER: Final = struct.Struct("=IHHII")
"""Length, type, flags, sequence number, port."""
_FAMILY: Final = struct.Struct(">BBH")
"""Protocol family, version, and the queue's number."""
_ATTRIBUTE: Final = struct.Struct("=HH")
_ACCEPT: Final = 1
_QUEUE_MAX: Final = 1 << 16
_ERROR: Final = 2


def _attribute(kind: int, content: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(content)
    return _ATTRIBUTE.pack(length, kind) + content + bytes(-length % 4)


class Queue:
    """A netfilter queue of this network namespace. Raises OSError if it cannot be had."""

    def __init__(self, number: int) -> None:
        self._number: Final = number
        self.socket: Final = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        self.socket.bind((0, 0))
        bind = _attribute(1, struct.pack(">BBH", 1, 0, socket.AF_INET))
        self._configure(bind)
        only_numbers = _attribute(2, struct.pack(">IB", 0, 1))
        self._configure(only_numbers + _attribute(3, struct.pack(">I", _QUEUE_MAX)))

    def _configure(self, attributes: bytes) -> None:
        self._send(_CONFIG, attributes, _REQUEST | _ACK)
        reply = self.socket.recv(65536)
        _, kind, _, _, _ = _HEADER.unpack_from(reply)
        code = struct.unpack_from("=i", reply, _HEADER.size)[0] if kind == _ERROR else 0
        if code:
            raise OSError(-code, "the netfilter queue cannot be had")

    def _send(self, kind: int, attributes: bytes, flags: int) -> None:
        body = _FAMILY.pack(socket.AF_UNSPEC, 0, self._number) + attributes
        header = _HEADER.pack(_HEADER.size + len(body), _QUEUE_SUBSYSTEM | kind, flags, 0, 0)
        self.socket.send(header + body)

    def take(self) -> list[int]:
        """The numbers of packets that came; waits for some."""
        data = self.socket.recv(1 << 18)
        numbers = []
        at = 0
        while at + _HEADER.size <= len(data):
            length, kind, _, _, _ = _HEADER.unpack_from(data, at)
            if kind == _QUEUE_SUBSYSTEM | _PACKET:
                numbers += self._numbers(data[at + _HEADER.size + _FAMILY.size : at + length])
            at += max(length + -length % 4, _HEADER.size)
        return numbers

    def _numbers(self, attributes: bytes) -> list[int]:
        at = 0
        while at + _ATTRIBUTE.size <= len(attributes):
            length, kind = _ATTRIBUTE.unpack_from(attributes, at)
            if kind & 0x7FFF == 1:
                return [struct.unpack_from(">I", attributes, at + _ATTRIBUTE.size)[0]]
            at += max(length + -length % 4, _ATTRIBUTE.size)
        return []

    def let_go(self, packet: int) -> None:
        """Lets a packet pass."""
        self._send(_VERDICT, _attribute(2, struct.pack(">II", _ACCEPT, packet)), _REQUEST)


def hold(queue: Queue, least: float, most: float, random: Random) -> None:
    """Lets each packet pass after a time between the two, until it is killed."""
    held: list[tuple[float, int]] = []
    while True:
        now = time.monotonic()
        while held and held[0][0] <= now:
            queue.let_go(heapq.heappop(held)[1])
        wait = max(0.0, held[0][0] - now) if held else None
        if select.select([queue.socket], [], [], wait)[0]:
            now = time.monotonic()
            for packet in queue.take():
                heapq.heappush(held, (now + random.uniform(least, most), packet))


def main() -> None:
    """The command line, which is the harness's."""
    parser = argparse.ArgumentParser(prog="python -m bench.processes.holding", description=__doc__)
    parser.add_argument("--queue", type=int, required=True)
    parser.add_argument("--least", type=float, required=True, help="seconds")
    parser.add_argument("--most", type=float, required=True, help="seconds")
    arguments = parser.parse_args()
    queue = Queue(arguments.queue)
    print("ready", flush=True)
    hold(queue, arguments.least, arguments.most, Random(0))


if __name__ == "__main__":
    main()
