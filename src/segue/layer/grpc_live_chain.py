"""The chain of a process while it serves: it is started, grows, carries versions, shrinks, and is stopped.

What the simulations are made of, and on which folders, is for those who make them.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from segue.author import Simulation
from segue.layer.chain import Chain, Link
from segue.layer.grpc_delegate import Delegate
from segue.layer.grpc_server import Dispatch
from segue.model.ids import Version
from segue.model.usage import AnsweredBy

logger = logging.getLogger(__name__)

#: Unary calls that are inside when a simulation with hooks comes may end so long before it starts. Those that do not
#: are told of when they end: shorter, and a call of the new version may see them half done.
_INSTALL_SETTLE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """A simulation that is to be made.

    Attributes:
        make: takes the simulation's delegate.
        version: the newest version whose calls it answers.
        since: the oldest.
    """

    make: Callable[[Delegate], Simulation]
    version: Version
    since: Version


class LiveChain:
    """The chain that a dispatch shows. One change at a time: whoever changes it waits for the change before.

    Args:
        dispatch: is shown each change.
    """

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._chain: Chain | None = None
        #: Past simulations that are in the chain no more, and may have calls inside.
        self._leaving: list[Link] = []

    @property
    def versions(self) -> list[Version]:
        """The versions that are answered, oldest first."""
        links = self._chain.links if self._chain else ()
        return [version for link in links if link.ready for version in link.versions]

    @property
    def newest(self) -> Version:
        """The newest version that is answered; the chain has been started."""
        return self._shown.newest

    async def start(
        self, current: Link, past: Sequence[Maker], tested: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Start past simulations on an object, and let calls in.

        Args:
            current: the object, started.
            past: its past simulations, newest first.
            tested: is awaited when all have started, before the first call.

        Raises:
            Exception: what the author's code raised; the simulations that had started have been stopped.
        """
        chain = Chain((current,))
        try:
            for maker in past:
                link = self._made(maker, chain.links[0], "past")
                chain = Chain((link, *chain.links))
                self._dispatch.bind(chain)
                await _simulation(link).start()
            if tested is not None:
                await tested()
            self._show(chain)
        except BaseException:
            for link in chain.links[:-1]:
                await _stop_quietly(_simulation(link))
            raise

    async def install(self, maker: Maker) -> None:
        """Have the next newer version's calls answered from now on, disturbing no call in flight.

        Raises:
            Exception: the simulation does not start; the chain is as it was.
        """
        before = self._shown
        link = replace(self._made(maker, before.links[-1], "future"), ready=False)
        simulation = _simulation(link)
        try:
            # It observes before it starts, so that no call falls between what it reads and what it is told.
            self._show(Chain((*before.links, link)))
            if self._dispatch.has_hooks(simulation) and not await self._dispatch.settle(
                _INSTALL_SETTLE_S, streams=False
            ):
                logger.warning("calls that were inside when version %s came are still inside", link.version)
            await simulation.start()
            self._show(Chain((*before.links, replace(link, ready=True))))
        except BaseException:
            await self._give_up(before, simulation)
            raise

    async def _give_up(self, before: Chain, simulation: Simulation) -> None:
        """Have the chain as it was before a simulation came, and stop that once no call comes to its hooks."""
        hooked = self._dispatch.has_hooks(simulation)
        self._show(before)
        if hooked and not await self._dispatch.settle(_INSTALL_SETTLE_S, streams=False):
            logger.warning("calls are still inside that came while %s started", type(simulation).__qualname__)
        await _stop_quietly(simulation)

    def carry(self, version: Version) -> None:
        """Have the newest object answer the next version too, whose release leaves its class untouched."""
        *below, newest = self._shown.links
        self._show(Chain((*below, replace(newest, version=version, since=newest.oldest))))

    async def retire(self, oldest: Version, timeout_s: float) -> None:
        """Have no version below `oldest` answered any more, disturbing no call in flight.

        Past simulations of which no version is left are stopped once their last call has ended. The current object
        stays with the newest version that it answers, and so does what is above it. Safe to repeat, also after a
        failure.

        Args:
            oldest: of the versions that are to be answered.
            timeout_s: seconds that calls inside have to end.

        Raises:
            TimeoutError: they have not; no new call comes to these simulations, which are still there.
            Exception: what the author's `stop` raised; that simulation is gone all the same.
        """
        before = self._shown
        past = [link for link in before.links if link.role == "past"]
        kept = [_not_below(link, oldest) for link in past if link.version >= oldest]
        self._leaving += [link for link in past if link.version < oldest]
        current, *above = before.links[len(past) :]
        after = (*kept, _not_below(current, min(oldest, current.version)), *above)
        if after != before.links:
            self._show(Chain(after))
        if not await self._dispatch.settle(timeout_s):
            raise TimeoutError(
                f"after {timeout_s} s calls that came before version {oldest} was the oldest are still inside: "
                "try again when they have ended"
            )
        await self._stop_leaving()

    async def stop(self) -> None:
        """Stop the simulations, those first that delegate to others; the current object is not stopped.

        Raises:
            Exception: what the author's code raised; the others were not stopped then.
        """
        await self._stop_leaving()
        if self._chain is None:
            return
        chain = self._chain
        for link in sorted(chain.links, key=lambda link: -abs(chain.place_of(link))):
            if link.role != "current":
                await _simulation(link).stop()

    def hide(self) -> None:
        """Have nothing answered any more, as before the start."""
        self._chain = None
        self._dispatch.hide()

    async def _stop_leaving(self) -> None:
        while self._leaving:
            await _simulation(self._leaving.pop(0)).stop()

    @property
    def _shown(self) -> Chain:
        assert self._chain is not None, "the chain is changed before it was started"
        return self._chain

    def _made(self, maker: Maker, neighbour: Link, role: AnsweredBy) -> Link:
        view = Delegate(neighbour.instance)
        since = maker.since if maker.since < maker.version else None
        return Link(version=maker.version, since=since, role=role, instance=maker.make(view), delegate=view)

    def _show(self, chain: Chain) -> None:
        self._dispatch.show(chain)
        self._chain = chain


def _not_below(link: Link, oldest: Version) -> Link:
    """Return `link` without the versions below `oldest`; it has one from there on."""
    return link if link.oldest >= oldest else replace(link, since=oldest)


def _simulation(link: Link) -> Simulation:
    assert isinstance(link.instance, Simulation), link
    return link.instance


async def _stop_quietly(simulation: Simulation) -> None:
    """Let a simulation that goes close what it opened; nothing can be done if that fails."""
    try:
        await simulation.stop()
    except Exception:
        logger.exception("%s could not be stopped", type(simulation).__qualname__)
