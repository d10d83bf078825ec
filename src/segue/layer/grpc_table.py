"""The table that a call is looked up in, built from a chain when it changes and never per call."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from segue.author import Simulation, observers_of
from segue.errors import ReleaseError
from segue.layer.chain import Chain, Link
from segue.layer.grpc_answer import Answer, Key, LeftOutError, Observer, Surroundings, answer, behaviour_of
from segue.layer.grpc_collector import MethodHandler, methods_of
from segue.layer.grpc_context import Context
from segue.layer.label import UnlabelledDefault
from segue.model.ids import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Who answers what.

    Attributes:
        answers: {(version, method): (for clients, for nodes)}
        unready: what will be answered once its simulation is ready.
        unlabelled: {method: version that a call without a label is taken to speak}
        versions: {method: versions that have it, oldest first}
        services: whose methods those are, such as `blockstore.BlockStore`.
        observers: {(version, method): observers, past simulations' first}
        oldest: version in the chain.
        newest: version in the chain.
    """

    answers: Mapping[Key, tuple[Answer, Answer]]
    unready: frozenset[Key]
    unlabelled: Mapping[str, Version]
    versions: Mapping[str, tuple[Version, ...]]
    services: frozenset[str]
    observers: Mapping[Key, tuple[Observer, ...]]
    oldest: Version
    newest: Version


def build_table(chain: Chain, default: UnlabelledDefault, surround: Callable[[Link, str, bool], Surroundings]) -> Table:
    """Look at each object of the chain and say who answers what.

    Args:
        chain: the node's objects.
        default: the version of calls without a label, where more than one version has their method.
        surround: what is around the answer of (object, method, calls from nodes).

    Raises:
        ReleaseError: an object cannot be registered, a method is not asynchronous, or a simulation
            observes what its delegate has not.
    """
    methods = {link.version: methods_of(link) for link in chain.links}
    answers: dict[Key, tuple[Answer, Answer]] = {}
    unready: set[Key] = set()
    for link in chain.links:
        for method, handler in methods[link.version].items():
            key = (link.version, method)
            behaviour = _asynchronous(link, method, behaviour_of(handler))
            if not link.ready:
                unready.add(key)
                continue
            clients, nodes = (
                answer(key, handler, behaviour, surround(link, method, from_node)) for from_node in (False, True)
            )
            answers[key] = (clients, nodes)
    versions = _versions(methods)
    otherwise = chain.current.version if default == "current" else default
    return Table(
        answers=answers,
        unready=frozenset(unready),
        unlabelled={method: having[0] if len(having) == 1 else otherwise for method, having in versions.items()},
        versions=versions,
        services=frozenset(service_of(method) for method in versions),
        observers=_observers(chain, methods),
        oldest=chain.oldest,
        newest=chain.newest,
    )


def service_of(method: str) -> str:
    """Return whose method it is: of `/blockstore.BlockStore/Put`, `blockstore.BlockStore`."""
    return method.rpartition("/")[0].removeprefix("/")


def _versions(methods: Mapping[Version, Mapping[str, MethodHandler]]) -> dict[str, tuple[Version, ...]]:
    found: dict[str, tuple[Version, ...]] = {}
    for version, handlers in methods.items():
        for method in handlers:
            found[method] = (*found.get(method, ()), version)
    return found


def _asynchronous(link: Link, method: str, behaviour: Callable[..., Any]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(behaviour) or inspect.isasyncgenfunction(behaviour):
        return behaviour
    # A generated servicer's own methods are plain functions that say "not implemented": the author left this one out.
    if getattr(behaviour, "__module__", "").endswith("_pb2_grpc"):
        return _left_out(f"version {link.version} has no {method} on this node")
    raise ReleaseError(
        f"{method} of {type(link.instance).__qualname__} of version {link.version} is not asynchronous: "
        "write it with `async def`"
    )


def _left_out(details: str) -> Callable[..., Any]:
    async def unimplemented(_: object, __: Context) -> None:
        raise LeftOutError(details)

    return unimplemented


def _observers(chain: Chain, methods: Mapping[Version, Mapping[str, MethodHandler]]) -> dict[Key, tuple[Observer, ...]]:
    found: dict[Key, tuple[Observer, ...]] = {}
    for link in chain.links:
        if not isinstance(link.instance, Simulation) or link.role == "current":
            continue
        delegate = chain.delegate_of(link).version
        for name, observers in observers_of(link.instance).items():
            method = _observed(link, name, delegate, methods[delegate])
            for observer in observers:
                if not inspect.iscoroutinefunction(observer):
                    raise ReleaseError(f"{_observer(link, name)} is not asynchronous: write it with `async def`")
                if not _takes(observer, "request", "reply", "context"):
                    raise ReleaseError(
                        f"{_observer(link, name)} does not take (request, reply, context): give it these"
                    )
            found[delegate, method] = (*found.get((delegate, method), ()), *observers)
    return found


def _observed(link: Link, name: str, delegate: Version, handlers: Mapping[str, MethodHandler]) -> str:
    """Return the path of the one unary method of the delegate that is called `name`."""
    paths = [path for path in handlers if path.rpartition("/")[2] == name]
    if not paths:
        known = ", ".join(sorted({path.rpartition("/")[2] for path in handlers}))
        raise ReleaseError(f"{_observer(link, name)}, but version {delegate} has no such method: use one of {known}")
    if len(paths) > 1:
        raise ReleaseError(f"{_observer(link, name)}, but version {delegate} has {' and '.join(sorted(paths))}")
    handler = handlers[paths[0]]
    if handler.request_streaming or handler.response_streaming:
        raise ReleaseError(f"{_observer(link, name)}, which streams: only unary methods can be observed")
    return paths[0]


def _observer(link: Link, name: str) -> str:
    return f'{type(link.instance).__qualname__} of version {link.version}: its observer of "{name}"'


def _takes(function: Observer, *arguments: str) -> bool:
    """Say whether `function` can be called with so many arguments."""
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    return True
