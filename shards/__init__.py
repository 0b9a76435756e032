"""One node: the shared store, the network multiplexer, the engine that owns every replica, the server."""
