"""Where a key lives and how to reach it: shard map, ring, frames, sessions, the trio client."""
