"""The event loop of a process: uvloop's where it exists, which is everywhere but on Windows.

A round is a handful of small messages, and a good part of what they cost is the loop: of the
orchestrator's processor time a token one tenth. Both loops do the same. Servers run on this one,
what tests run in their own process runs on asyncio's.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

new_event_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
"""Makes one."""

with suppress(ImportError):
    import uvloop

    new_event_loop = uvloop.new_event_loop
