"""The event loop of a process: uvloop's where it exists, which is everywhere but on Windows.

A round is a handful of small messages, and what they cost in Python is mostly the loop. Both loops
do the same; tests run on either.
"""

try:
    from uvloop import new_event_loop
except ImportError:
    from asyncio import new_event_loop

__all__ = ["new_event_loop"]
