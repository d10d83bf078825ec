"""The past simulation: version 1's calls, which are v1alpha's, on a server whose object answers v1."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from grpc_reflection.v1alpha import reflection_pb2 as v1alpha
from grpc_reflection.v1alpha import reflection_pb2_grpc as v1alpha_services

import segue

from . import reflection_v1_pb2 as v1

#: What the reflection service itself is called. A caller of a version finds that version's name in the list.
V1_SERVICE = v1.DESCRIPTOR.services_by_name["ServerReflection"].full_name
V1ALPHA_SERVICE = v1alpha.DESCRIPTOR.services_by_name["ServerReflection"].full_name


class Version1(segue.PastSimulation, v1alpha_services.ServerReflectionServicer):
    """Answers v1alpha by an object that answers v1, message by message. It keeps no state and calls no other node."""

    def register(self, server: Any) -> None:
        """Have `server` answer v1alpha's calls with this."""
        v1alpha_services.add_ServerReflectionServicer_to_server(self, server)

    async def ServerReflectionInfo(
        self, requests: AsyncIterator[v1alpha.ServerReflectionRequest], context: Any
    ) -> AsyncIterator[v1alpha.ServerReflectionResponse]:
        """Hand each request on when it comes, and each answer; one stream ends when the other does."""
        # A caller that goes away ends this at a yield or in the delegate: closed here, both have cleaned up by then.
        async with (
            aclosing(_in_v1(requests)) as translated,
            aclosing(self.delegate.ServerReflectionInfo(translated, context)) as replies,
        ):
            async for reply in replies:
                yield to_v1alpha(reply)


async def _in_v1(
    requests: AsyncIterator[v1alpha.ServerReflectionRequest],
) -> AsyncGenerator[v1.ServerReflectionRequest, None]:
    async for request in requests:
        yield to_v1(request)


def to_v1(request: v1alpha.ServerReflectionRequest) -> v1.ServerReflectionRequest:
    """Return the request in v1; both versions have the same fields, so its bytes are read as v1's."""
    return v1.ServerReflectionRequest.FromString(request.SerializeToString())


def to_v1alpha(reply: v1.ServerReflectionResponse) -> v1alpha.ServerReflectionResponse:
    """Return the answer in v1alpha, with v1alpha's name of the reflection service."""
    past = v1alpha.ServerReflectionResponse.FromString(reply.SerializeToString())
    for service in past.list_services_response.service if past.HasField("list_services_response") else ():
        if service.name == V1_SERVICE:
            service.name = V1ALPHA_SERVICE
    return past
