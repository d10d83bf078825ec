"""A whole system on this machine: the upgrade server and the nodes as real processes on loopback.

The demo runs on it, and so do tests with real processes. It knows the `segue` command, and none of the
rooms behind it; what is asked of the upgrade server over HTTP, and what is made of the answers, is not here.
"""

from segue.local.machine import free_ports, is_alive, last_line
from segue.local.system import Ended, LocalSettings, LocalSystem

__all__ = ["Ended", "LocalSettings", "LocalSystem", "free_ports", "is_alive", "last_line"]
