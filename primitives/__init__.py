"""Replicated objects: their state machines and their client handles, one file each, and what they share."""
