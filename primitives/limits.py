"""Bounds on everything that a client or a peer can make the system hold."""

from __future__ import annotations

from typing import Final

NAME_BYTES_MAX: Final = 512
KEY_BYTES_MAX: Final = 1024
VALUE_BYTES_MAX: Final = 1 << 20
"""Bytes of all the values that one command carries, together."""
VALUE_DEPTH_MAX: Final = 16
INT_MIN: Final = -(1 << 63)
INT_MAX: Final = (1 << 63) - 1

ARGUMENT_BYTES_MAX: Final = 16 * 1024
"""CBOR of one command's or query's arguments, values apart."""
ENVELOPE_BYTES_MAX: Final = 64 * 1024
"""CBOR that a server decodes of one frame."""
CLIENT_FRAME_BYTES_MAX: Final = VALUE_BYTES_MAX + ENVELOPE_BYTES_MAX
NODE_FRAME_BYTES_MAX: Final = 2 * VALUE_BYTES_MAX + ENVELOPE_BYTES_MAX
"""Of a frame that a node sends: an event may carry a value and the one that it replaced."""
PEER_FRAME_BYTES_MAX: Final = 8 << 20
UNAUTHENTICATED_FRAME_BYTES_MAX: Final = 4 * 1024
KEEPALIVE_LEASES_MAX: Final = 1000
"""Leases that one keepalive names, and an answer confirms or calls gone."""

BURST_COMMANDS_MAX: Final = 64
"""Commands that one record carries."""
BURST_ANSWER_BYTES_MAX: Final = 32 * 1024
"""Once a burst's answers are larger than this, what is left of it is refused; so they fit into a frame."""

ROWS_A_COMMAND_MAX: Final = 1000
ANSWERS_STORED_MAX: Final = 1024
"""Unacknowledged answers kept for one (session, slot)."""
SESSIONS_A_GROUP_MAX: Final = 100_000
PAGE_ROWS_MAX: Final = 1000
PAGE_BYTES_MAX: Final = 256 * 1024
"""A page of a big read ends at whichever comes first."""
PARTITIONS_DEFAULT: Final = 16
PARTITIONS_MAX: Final = 1024
TTL_MS_MAX: Final = 1 << 42
"""139 years."""
SESSION_TIMEOUT_MS_MIN: Final = 500
SESSION_TIMEOUT_MS_MAX: Final = 3_600_000

HISTORY_EVENTS_MAX: Final = 65_536
"""Events that a partition's history keeps, about."""
HISTORY_BYTES_MAX: Final = 16 << 20
"""Bytes of those events, with their keys and values."""
HISTORY_AGE_MS: Final = 900_000
"""How long in log time an event stays in the history, at least unless there are too many."""
WATCH_CREDIT_MAX: Final = 1 << 40
"""Bytes of events that a client may allow a node to send ahead."""
