"""The table that a call is looked up in, built from a chain when it changes and never per call."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from segue.author import Simulation
from segue.layer.chain import Chain, Link
from segue.layer.grpc_answer import Answer, Key, LeftOutError, Method, Surroundings, answer
from segue.layer.grpc_collector import MethodHandler, behaviour_of, methods_of, service_of
from segue.layer.grpc_context import Context
from segue.layer.grpc_delegate import Delegate, bind, delegated
from segue.layer.grpc_hooks import Around, Hooks, Methods, Observer, followed_later, hooks_of, interceptors_at
from segue.layer.grpc_order import Order
from segue.layer.grpc_step import through
from segue.layer.label import UnlabelledDefault
from segue.layer.steps import Steps
from segue.layer.threads.grpc_threads import as_async
from segue.model.ids import Version

#: Says what is around an answer: of (object, version and method, calls from nodes, unary).
Surround: TypeAlias = Callable[[Link, Key, bool, bool], Surroundings]
#: What a simulation calls its delegate's methods by: {name: callable}
Bound: TypeAlias = Mapping[str, Callable[..., Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bonds:
    """What the simulations of a chain know of each other.

    Attributes:
        views: what each simulation's delegate is to be bound to.
        beyond: whom each simulation tells of calls of its version: {name of a method: observers}
    """

    views: tuple[tuple[Delegate, Bound], ...]
    beyond: tuple[tuple[Simulation, Mapping[str, tuple[Observer, ...]]], ...]

    def bind(self) -> None:
        """Have simulations call their delegates, and tell those beyond them, as this chain is."""
        for view, bound in self.views:
            bind(view, bound)
        for simulation, observers in self.beyond:
            simulation.told_beyond(observers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Who answers what.

    Attributes:
        answers: {(version, method): (for clients, for nodes)}
        unready: what will be answered once its simulation is ready.
        unlabelled: {method: version that a call without a label is taken to speak}
        versions: {method: versions that have it, oldest first}
        services: whose methods those are, such as `blockstore.BlockStore`.
        hooks: observers and interceptors, by the method that they are around.
        bonds: what simulations are to know of this chain.
        oldest: version in the chain.
        newest: version in the chain.
        current: version that the object answers, the newest of them.
    """

    answers: Mapping[Key, tuple[Answer, Answer]]
    unready: frozenset[Key]
    unlabelled: Mapping[str, Version]
    versions: Mapping[str, tuple[Version, ...]]
    services: frozenset[str]
    hooks: Hooks
    bonds: Bonds
    oldest: Version
    newest: Version
    current: Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What tables that follow each other share.

    Attributes:
        hooks: of the chain that is shown at any time.
        steps: whom calls wait for.
    """

    hooks: Hooks
    steps: Steps


def build_table(chain: Chain, default: UnlabelledDefault, live: Live, surround: Surround) -> Table:
    """Look at each object of the chain and say who answers what.

    Args:
        chain: the node's objects.
        default: the version of calls without a label, where more than one version has their method.
        live: what this table shares with those before and after it.
        surround: what is around the answer of (object, version and method, calls from nodes, unary).

    Raises:
        ReleaseError: an object cannot be registered, or a simulation observes or intercepts what its delegate has not.
    """
    return _Builder(chain, live).build(default, surround)


def bonds_of(chain: Chain, live: Live) -> Bonds:
    """Say what the simulations of a chain are to know, where no call is let in to them yet: quicker than a table.

    Args:
        chain: the node's objects.
        live: what the tables of that node share.

    Raises:
        ReleaseError: as `build_table`.
    """
    return _Builder(chain, live).bonds()


class _Builder:
    """Looks at one chain."""

    def __init__(self, chain: Chain, live: Live) -> None:
        self._chain = chain
        self._live = live
        self._methods: Methods = {chain.place_of(link): methods_of(link) for link in chain.links}
        self._behaviours = {
            (chain.place_of(link), method): _behaviour(link, method, handler)
            for link in chain.links
            for method, handler in self._methods[chain.place_of(link)].items()
        }
        self._hooks = hooks_of(chain, self._methods)
        self._order = Order(chain, self._methods, self._hooks)

    def build(self, default: UnlabelledDefault, surround: Surround) -> Table:
        chain = self._chain
        versions = self._versions()
        otherwise = chain.current.version if default == "current" else default
        answers: dict[Key, tuple[Answer, Answer]] = {}
        for link in chain.links:
            if link.ready:
                answers |= self._answers(link, surround)
        return Table(
            answers=answers,
            unready=frozenset(key for link in chain.links if not link.ready for key in self._keys(link)),
            unlabelled={method: having[0] if len(having) == 1 else otherwise for method, having in versions.items()},
            versions=versions,
            services=frozenset(service_of(method) for method in versions),
            hooks=self._hooks,
            bonds=self.bonds(),
            oldest=chain.oldest,
            newest=chain.newest,
            current=chain.current.version,
        )

    def bonds(self) -> Bonds:
        links = self._chain.links
        return Bonds(
            views=tuple((link.delegate, self._bound(link)) for link in links if isinstance(link.delegate, Delegate)),
            beyond=tuple(
                (link.instance, self._beyond(link))
                for link in links
                if link.role != "current" and isinstance(link.instance, Simulation)
            ),
        )

    def _of(self, link: Link) -> Mapping[str, MethodHandler]:
        return self._methods[self._chain.place_of(link)]

    def _keys(self, link: Link) -> list[Key]:
        return [(version, method) for version in link.versions for method in self._of(link)]

    def _versions(self) -> dict[str, tuple[Version, ...]]:
        """Return the versions that have each method, oldest first."""
        found: dict[str, tuple[Version, ...]] = {}
        for link in self._chain.links:
            for method in self._of(link):
                found[method] = (*found.get(method, ()), *link.versions)
        return found

    def _answers(self, link: Link, surround: Surround) -> dict[Key, tuple[Answer, Answer]]:
        found: dict[Key, tuple[Answer, Answer]] = {}
        for key in self._keys(link):
            method = self._method(link, key[1])
            clients, nodes = (
                answer(method, surround(link, key, from_node, method.is_unary)) for from_node in (False, True)
            )
            found[key] = (clients, nodes)
        return found

    def _method(self, link: Link, path: str) -> Method:
        spot = (self._chain.place_of(link), path)
        handler, behaviour = self._of(link)[path], self._behaviours[spot]
        unary = not (handler.request_streaming or handler.response_streaming)
        return Method(
            is_unary=unary,
            spot=spot,
            handler=handler,
            behaviour=as_async(handler, behaviour),
            claims=self._order.call(link, path, unary=unary),
            interceptors=interceptors_at(spot, self._hooks, None),
            is_hooked=spot in self._hooks,
        )

    def _bound(self, simulation: Link) -> Bound:
        """Return what a simulation calls its delegate's methods by; of two methods of one name, neither."""
        delegate = self._chain.delegate_of(simulation)
        found: dict[str, Callable[..., Any] | None] = {}
        for path, handler in self._of(delegate).items():
            name = _name(delegate, path, behaviour_of(handler))
            found[name] = None if name in found else self._call(simulation, delegate, path)
        return {name: call for name, call in found.items() if call is not None}

    def _call(self, simulation: Link, delegate: Link, path: str) -> Callable[..., Any]:
        """Return what a simulation calls one method of its delegate by, through the hooks of others."""
        spot = (self._chain.place_of(delegate), path)
        handler, behaviour = self._of(delegate)[path], self._behaviours[spot]
        claims = self._order.triggered(delegate, path, simulation)
        if not claims:
            if handler.request_streaming or handler.response_streaming:
                return delegated(handler, behaviour)
            return delegated(
                handler, behaviour, following=partial(followed_later, spot, self._live.hooks, simulation.instance)
            )
        around = Around(
            method=as_async(handler, behaviour),
            spot=spot,
            interceptors=interceptors_at(spot, self._hooks, simulation.instance),
            live=self._live.hooks,
            asker=simulation.instance,
        )
        return delegated(handler, through(around, claims, self._live.steps))

    def _beyond(self, simulation: Link) -> dict[str, tuple[Observer, ...]]:
        """Return whom a simulation tells of calls of its version, by the methods' names."""
        return {
            path.rpartition("/")[2]: tuple(observer for hook in hooks for observer in hook.observers)
            for (place, path), hooks in self._hooks.items()
            if place == self._chain.place_of(simulation)
        }


def _name(link: Link, path: str, behaviour: Callable[..., Any]) -> str:
    """Return what a method of an object is called by: its attribute, which in generated code is the path's end."""
    name = getattr(behaviour, "__name__", "")
    return name if getattr(link.instance, name, None) == behaviour else path.rpartition("/")[2]


def _behaviour(link: Link, method: str, handler: MethodHandler) -> Callable[..., Any]:
    behaviour = behaviour_of(handler)
    if is_left_out(behaviour):
        return _left_out(f"version {link.version} has no {method} on this node")
    return behaviour


def is_left_out(behaviour: Callable[..., Any]) -> bool:
    """Say whether a method is a generated servicer's own, which says "not implemented": the author left it out."""
    return str(getattr(behaviour, "__module__", "")).endswith("_pb2_grpc")


def _left_out(details: str) -> Callable[..., Any]:
    async def unimplemented(_: object, __: Context) -> None:
        raise LeftOutError(details)

    return unimplemented
