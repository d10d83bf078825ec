"""The object: answers reflection v1, and knows of no other version."""

from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from . import reflection_v1_pb2 as v1
from . import reflection_v1_pb2_grpc as v1_services


class Reflection(v1_services.ServerReflectionServicer):
    """Tells of services, and of the files that a descriptor pool has.

    Args:
        services: full names of the services that are listed, such as `shop.Shop`.
        pool: where descriptors are looked up; by default that of all generated code in this process.
    """

    def __init__(self, services: Iterable[str], pool: descriptor_pool.DescriptorPool | None = None) -> None:
        self._services = sorted(services)
        self._pool = pool or descriptor_pool.Default()

    def register(self, server: Any) -> None:
        """Have `server` answer v1's calls with this."""
        v1_services.add_ServerReflectionServicer_to_server(self, server)

    async def ServerReflectionInfo(
        self,
        requests: AsyncIterator[v1.ServerReflectionRequest],
        context: Any,  # noqa: ARG002
    ) -> AsyncIterator[v1.ServerReflectionResponse]:
        """Answer each request; what is not there or makes no sense is an answer too, and the stream goes on."""
        async for request in requests:
            try:
                reply = self._answer(request)
            except KeyError:
                reply = _error(grpc.StatusCode.NOT_FOUND)
            reply.original_request.CopyFrom(request)
            yield reply

    def _answer(self, request: v1.ServerReflectionRequest) -> v1.ServerReflectionResponse:
        """Return the answer to one request, but for the request in it; KeyError if there is no such thing."""
        match request.WhichOneof("message_request"):
            case "list_services":
                services = [v1.ServiceResponse(name=name) for name in self._services]
                return v1.ServerReflectionResponse(list_services_response=v1.ListServiceResponse(service=services))
            case "file_by_filename":
                return _files(self._pool.FindFileByName(request.file_by_filename))
            case "file_containing_symbol":
                return _files(self._pool.FindFileContainingSymbol(request.file_containing_symbol))
            case "file_containing_extension":
                wanted = request.file_containing_extension
                extended = self._pool.FindMessageTypeByName(wanted.containing_type)
                extension = self._pool.FindExtensionByNumber(extended, wanted.extension_number)
                return _files(self._pool.FindFileContainingSymbol(extension.full_name))
            case "all_extension_numbers_of_type":
                extended = self._pool.FindMessageTypeByName(request.all_extension_numbers_of_type)
                numbers = sorted(extension.number for extension in self._pool.FindAllExtensions(extended))
                return v1.ServerReflectionResponse(
                    all_extension_numbers_response=v1.ExtensionNumberResponse(
                        base_type_name=extended.full_name, extension_number=numbers
                    )
                )
        return _error(grpc.StatusCode.INVALID_ARGUMENT)


def _files(wanted: FileDescriptor) -> v1.ServerReflectionResponse:
    """Return a file and all that it imports, each once."""
    found: dict[str, FileDescriptor] = {}
    _add(wanted, found)
    serialized = []
    for file in found.values():
        proto = FileDescriptorProto()
        file.CopyToProto(proto)
        serialized.append(proto.SerializeToString())
    return v1.ServerReflectionResponse(
        file_descriptor_response=v1.FileDescriptorResponse(file_descriptor_proto=serialized)
    )


def _add(file: FileDescriptor, found: dict[str, FileDescriptor]) -> None:
    """Put a file and what it imports into `found`, `{name: file}`."""
    if file.name not in found:
        found[file.name] = file
        for imported in file.dependencies:
            _add(imported, found)


def _error(code: grpc.StatusCode) -> v1.ServerReflectionResponse:
    number, text = code.value
    return v1.ServerReflectionResponse(error_response=v1.ErrorResponse(error_code=number, error_message=text))
