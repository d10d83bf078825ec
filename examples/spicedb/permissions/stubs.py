"""The official generated code of authzed.api.v0 and v1, from PyPI's `authzed`, as it is.

Two of its files make their descriptors one by one, as protoc did until 2021, and protobuf has refused that since 4.0.
Each of them also holds its whole descriptor as bytes, as newer files do: here these bytes are given to protobuf, and
the module made of them stands where the file's would. Import this before anything of `authzed`.
"""

import ast
import sys
from importlib import import_module
from importlib.metadata import distribution
from pathlib import Path
from types import ModuleType

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import Default
from google.protobuf.message_factory import GetMessageClassesForFiles

#: In this order: the second one's messages have the first one's options.
_ONE_BY_ONE = ("validate.validate_pb2", "authzed.api.v1.schema_pb2")


def _load(name: str) -> None:
    """Put the module of that name where `import` finds it, unless its file does not need that."""
    path = Path(str(distribution("authzed").locate_file(name.replace(".", "/") + ".py")))
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    values = [keyword.value for call in calls for keyword in call.keywords if keyword.arg == "serialized_pb"]
    files = [raw.value for raw in values if isinstance(raw, ast.Constant) and isinstance(raw.value, bytes)]
    if name in sys.modules or not files:
        return
    file = FileDescriptorProto.FromString(files[0])
    for needed in file.dependency:
        import_module(needed.removesuffix(".proto").replace("/", ".") + "_pb2")
    module = ModuleType(name)
    vars(module)["DESCRIPTOR"] = Default().AddSerializedFile(files[0])
    messages = GetMessageClassesForFiles([file.name], Default())
    vars(module).update({message.name: messages[f"{file.package}.{message.name}"] for message in file.message_type})
    sys.modules[name] = module


for _name in _ONE_BY_ONE:
    _load(_name)

from authzed.api import v1  # noqa: E402
from authzed.api.v0 import (  # noqa: E402
    acl_service_pb2,
    acl_service_pb2_grpc,
    core_pb2,
    developer_pb2,
    developer_pb2_grpc,
    namespace_pb2,
    namespace_service_pb2,
    namespace_service_pb2_grpc,
    watch_service_pb2,
    watch_service_pb2_grpc,
)
from authzed.api.v1 import permission_service_pb2_grpc as v1_permissions  # noqa: E402
from authzed.api.v1 import schema_pb2_grpc as v1_schema  # noqa: E402
from authzed.api.v1 import watch_service_pb2 as v1_watch  # noqa: E402
from authzed.api.v1 import watch_service_pb2_grpc as v1_watch_services  # noqa: E402

__all__ = [
    "acl_service_pb2",
    "acl_service_pb2_grpc",
    "core_pb2",
    "developer_pb2",
    "developer_pb2_grpc",
    "namespace_pb2",
    "namespace_service_pb2",
    "namespace_service_pb2_grpc",
    "v1",
    "v1_permissions",
    "v1_schema",
    "v1_watch",
    "v1_watch_services",
    "watch_service_pb2",
    "watch_service_pb2_grpc",
]
