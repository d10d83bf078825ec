"""How to wait for the end of a process that may not be one's child, and whose pipes others may hold."""

import asyncio
import os


async def ended(descriptor: int) -> None:
    """Return when the process of this pidfd (pidfd_open(2)) is gone."""
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    own = os.dup(descriptor)  # a loop has one reader for each
    loop.add_reader(own, gone.set)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(own)
        os.close(own)
