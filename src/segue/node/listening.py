"""All that a process of the application listens on, and how it takes that from the process before it."""

import asyncio
import logging
from contextlib import AsyncExitStack
from pathlib import Path

from segue.layer.grpc_listener import Listener, listen_for_relays, listen_on, unix_target
from segue.layer.grpc_server import Dispatch
from segue.model.address import TcpAddress, UnixAddress, read_addresses
from segue.node import handover, unix_sockets
from segue.node.plan import HandOverMode, HostPlan

logger = logging.getLogger(__name__)

#: A process that was replaced listens on for so long: a connection whose first packet came to it before new ones were
#: steered away may take as long to be there. Shorter, and clients far away may be refused; longer, and the next
#: process may have to wait.
_LINGER_S = 1.0
#: How long a new process waits until at most one other listens: of three, the kernel would not know the newest when
#: the first goes. Then it takes the port all the same.
_GROUP_S = 2 * _LINGER_S
_LOOK_S = 0.02


class Listening:
    """What one process listens on: the node's addresses, and a socket for what the process before it relays.

    Args:
        dispatch: what answers.
        plan: of the process.
    """

    def __init__(self, dispatch: Dispatch, plan: HostPlan) -> None:
        self._dispatch = dispatch
        self._plan = plan
        addresses = read_addresses(plan.addresses)
        self._tcp = [address for address in addresses if isinstance(address, TcpAddress)]
        self._ports = frozenset(address.port for address in self._tcp)
        self._unix = [Path(address.path) for address in addresses if isinstance(address, UnixAddress)]
        self._listeners: list[Listener] = []
        self._shown: list[unix_sockets.Shown] = []
        self._is_ready = False
        self._has_ports = False

    async def prepare(self) -> None:
        """Listen for what the process before this one relays; there is time for it before calls wait. Safe to repeat.

        Raises:
            OSError: the socket is not to be had.
        """
        if self._is_ready:
            return
        plan = self._plan
        self._listeners.append(await listen_for_relays(self._dispatch, Path(plan.peer), plan.max_message_bytes))
        self._is_ready = True
        if plan.hand_over is HandOverMode.PORT:
            await self._until_two()

    async def take(self, *, replacing: bool = False) -> None:
        """Have calls come to this process, and no new ones to the process before it. Safe to repeat.

        Args:
            replacing: whether a process that listens is about to be replaced. Where ports cannot pass, this one then
                takes only what can, and the ports when it is asked again, with False.

        Raises:
            OSError: an address is not to be had, the kernel cannot steer to it, or a TLS file is not what it should be;
                all is as before.
        """
        await self.prepare()
        names = {path: unix_sockets.own_name(path) for path in self._unix if self._is_to_show(path)}
        async with AsyncExitStack() as undo:
            taken: list[Listener] = []
            if names:
                taken.append(await self._listen_at([unix_target(str(name)) for name in names.values()]))
                undo.push_async_callback(taken[-1].stop, 0)
            takes_ports = not self._has_ports and (not replacing or self._plan.hand_over is HandOverMode.PORT)
            if takes_ports and self._tcp:
                taken.append(await self._take_ports())
                undo.push_async_callback(taken[-1].stop, 0)
            # Last, as what can fail comes before anybody can be steered here.
            shown = [unix_sockets.show(name, path) for path, name in names.items()]
            undo.pop_all()
        self._has_ports = self._has_ports or takes_ports
        self._listeners += taken
        self._shown += shown

    async def leave(self, *, at_once: bool = False) -> None:
        """Take no more connections to the ports, once nobody is on the way here; those that are open go on.

        The Unix sockets at the addresses' paths are the next process's already.

        Args:
            at_once: whether no other process has taken the ports: the sooner they are free, the better.
        """
        if not self._has_ports:
            return
        if not at_once:
            await asyncio.sleep(_LINGER_S)
        until = asyncio.get_running_loop().time() + _LINGER_S
        while asyncio.get_running_loop().time() < until:
            if not handover.is_waited_for(self._ports):
                break
            await asyncio.sleep(0)
        handover.stop_listening(self._ports)
        self._has_ports = False

    def connections(self) -> int:
        """Count the open connections: of clients to the node's addresses, and of processes that relay calls here."""
        return handover.connections({*self._ports, *(str(shown.own_name) for shown in self._shown), self._plan.peer})

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, end those that are inside after `grace_s` seconds, and leave no socket behind."""
        for shown in self._shown:
            unix_sockets.remove(shown)
        async with asyncio.TaskGroup() as ends:
            for listener in self._listeners:
                ends.create_task(listener.stop(grace_s))

    def _is_to_show(self, path: Path) -> bool:
        """Say whether a socket is to be shown there: at first, or again after a process that was to follow had its own.

        Raises:
            OSError: something else is there that was there before this process.
        """
        ours = [shown for shown in self._shown if shown.path == path]
        if any(unix_sockets.is_shown(shown) for shown in ours):
            return False
        try:
            unix_sockets.check(path)
        except OSError as error:
            if not ours:
                raise
            logger.warning("the node is not reached at %s any more, until that is removed: %s", path, error)
            return False
        return True

    async def _listen_at(self, targets: list[str]) -> Listener:
        plan = self._plan
        return await listen_on(self._dispatch, targets, plan.max_connection_age_s, plan.max_message_bytes)

    async def _take_ports(self) -> Listener:
        plan = self._plan
        if plan.hand_over is HandOverMode.PORT:
            await self._until_two()
        addresses = [str(address) for address in self._tcp]
        listener = await listen_on(
            self._dispatch, addresses, plan.max_connection_age_s, plan.max_message_bytes, plan.tls
        )
        try:
            if plan.hand_over is HandOverMode.PORT:
                handover.steer_to_newest(self._ports)
        except OSError:
            await listener.stop(0)
            raise
        return listener

    async def _until_two(self) -> None:
        """Wait until at most one other process listens on a port."""
        until = asyncio.get_running_loop().time() + _GROUP_S
        while handover.listeners_at(self._ports) > 1:
            if asyncio.get_running_loop().time() > until:
                logger.warning("several processes listen on the node's ports: takes them all the same")
                break
            await asyncio.sleep(_LOOK_S)
