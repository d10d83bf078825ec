"""Takes an object's method handlers: it stands in for the server in the author's `register(server)`."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import grpc

from segue.errors import ReleaseError
from segue.layer.chain import Link

#: A handler as generated code makes it; its types are the author's. (In quotes: generic for type checkers only.)
MethodHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Collector:
    """Collects what is registered with it, as a `grpc.aio.Server` would take it.

    Attributes:
        methods: {method's path: handler}
    """

    def __init__(self) -> None:
        self.methods: dict[str, MethodHandler] = {}

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Take what `grpc.method_handlers_generic_handler` made.

        Raises:
            ReleaseError: a handler of another make, whose methods cannot be listed.
        """
        for generic in generic_rpc_handlers:
            # gRPC has no public way to list them; generated code that is older knows no other way to hand them over.
            methods = getattr(generic, "_method_handlers", None)
            if not isinstance(methods, Mapping):
                raise ReleaseError(
                    f"register() adds {generic!r}, whose methods cannot be listed: "
                    "make it with grpc.method_handlers_generic_handler, as generated code does"
                )
            self.methods.update(methods)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, MethodHandler]) -> None:
        """Take the handlers of one service, by the methods' names."""
        self.methods.update({f"/{service_name}/{name}": handler for name, handler in method_handlers.items()})

    def __repr__(self) -> str:
        return f"Collector({sorted(self.methods)})"


def methods_of(link: Link) -> dict[str, MethodHandler]:
    """Return what an object registers: `{method's path: handler}`.

    Raises:
        ReleaseError: the object has no `register`, or it fails, or registers nothing.
    """
    who = f"{type(link.instance).__qualname__} of version {link.version}"
    register = getattr(link.instance, "register", None)
    if not callable(register):
        raise ReleaseError(f"{who} has no register(server): write one that calls the generated add_..._to_server")
    collector = Collector()
    try:
        register(collector)
    except ReleaseError:
        raise
    except Exception as error:
        raise ReleaseError(f"register(server) of {who} failed with {error!r}: mend it") from error
    if not collector.methods:
        raise ReleaseError(f"register(server) of {who} registers no method: call the generated add_..._to_server in it")
    return collector.methods


def behaviour_of(handler: MethodHandler) -> Callable[..., Any]:
    """Return the author's method behind a handler."""
    kind = f"{'stream' if handler.request_streaming else 'unary'}_{'stream' if handler.response_streaming else 'unary'}"
    behaviour: Callable[..., Any] = getattr(handler, kind)
    return behaviour


def service_of(method: str) -> str:
    """Return whose method it is: of `/blockstore.BlockStore/Put`, `blockstore.BlockStore`."""
    return method.rpartition("/")[0].removeprefix("/")
