"""The process that answers instead of this one, once there is one, and the calls that are relayed to it."""

from collections.abc import Collection

import grpc.aio

from segue.layer.gate import Gate
from segue.layer.grpc_collector import service_of
from segue.layer.grpc_relay import Onward, is_connected, relay
from segue.layer.parked import Parked, TooManyParkedError
from segue.layer.stay import EndedError, Stay


class MovedError(Exception):
    """A call that had not been sent on yet goes elsewhere now."""


class Forwarding:
    """Where calls are relayed to, and which are.

    Args:
        parked: where a call is counted as long as the other process cannot be reached.
    """

    def __init__(self, parked: Parked) -> None:
        self._parked = parked
        self._successor: grpc.aio.Channel | None = None
        self._gates: dict[grpc.aio.Channel, Gate] = {}
        #: How many of the calls that are relayed wait, and are counted there.
        self._waiting = 0

    @property
    def successor(self) -> grpc.aio.Channel | None:
        """The channel that calls are relayed through now; None if they are not relayed."""
        return self._successor

    @property
    def calls(self) -> int:
        """How many calls another process has through this one, or is about to get."""
        return sum(len(gate.stays) for gate in self._gates.values()) - self._waiting

    @property
    def is_reached(self) -> bool:
        """Whether a call would be sent on at once."""
        return self._successor is not None and is_connected(self._successor)

    def to(self, channel: grpc.aio.Channel | None) -> None:
        """Have calls relayed through `channel` from now on; None for no more.

        Calls that another process has got end there; those that it never got, as it cannot be reached, are moved.
        """
        before, self._successor = self._successor, channel
        if channel is not None:
            self._gates.setdefault(channel, Gate())
        if before is not None and before is not channel and not is_connected(before):
            for stay in tuple(self._gates[before].stays):
                if not stay.is_settled:
                    stay.end()

    async def emptied(self, channel: grpc.aio.Channel) -> None:
        """Return once no call is relayed through `channel`."""
        gate = self._gates.get(channel)
        if gate is None:
            return
        await gate.emptied()
        if channel is not self._successor:
            self._gates.pop(channel, None)

    async def all_emptied(self) -> None:
        """Return once no call is relayed."""
        for channel in tuple(self._gates):
            await self.emptied(channel)

    def end_all(self, services: Collection[str] | None = None) -> None:
        """End the calls that are relayed, those too that wait until they can be sent.

        Args:
            services: only theirs; None for all.
        """
        for gate in self._gates.values():
            for stay in tuple(gate.stays):
                if services is None or service_of(stay.method) in services:
                    stay.is_settled = True
                    stay.end()

    async def relay(self, channel: grpc.aio.Channel, call: Onward) -> bytes | None:
        """Relay a call through `channel`, the successor's; it waits as long as that cannot be reached.

        Returns:
            The reply's bytes if `call.unary_reply`, else None.

        Raises:
            MovedError: it was not sent, and goes elsewhere now.
            EndedError: it was ended.
            TooManyParkedError: it would have to wait, and may not.
        """
        gate = self._gates[channel]
        stay = Stay(gate.stays, call.method)
        waits = is_full = False

        def sent() -> None:
            stay.is_settled = True
            go_on()

        def go_on() -> None:
            nonlocal waits
            if waits:
                waits = False
                self._waiting -= 1
                self._parked.leave(call.waiting)

        def full() -> None:
            nonlocal is_full
            is_full = True
            stay.end()

        if not call.is_reached:
            self._parked.enter(call.waiting)
            self._waiting += 1
            waits = True
        gate.enter()
        call.waiting.on_full = full
        try:
            with stay:
                return await relay(channel, call, stay, sent)
        except EndedError:
            if is_full:
                raise TooManyParkedError from None
            if not stay.is_settled:
                raise MovedError from None
            raise
        finally:
            call.waiting.reset()
            gate.leave()
            go_on()

    def __repr__(self) -> str:
        return f"Forwarding({self.calls} calls, {'reached' if self.is_reached else 'not reached'})"
