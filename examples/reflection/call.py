"""Asks for a price without any generated code of the shop: all it knows of it comes by reflection v1alpha.

The client of reflection is grpcio-reflection's own, as it is; it knows nothing of v1, of Segue or of labels.

    python examples/reflection/call.py --target 127.0.0.1:9000 spoon
"""

import argparse
import sys
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase


def price(target: str, item: str) -> int:
    """Return what the shop at `target` wants for `item`, in cents."""
    with grpc.insecure_channel(target) as channel:
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        method = pool.FindServiceByName("shop.Shop").methods_by_name["Price"]
        request: Any = GetMessageClass(method.input_type)
        reply: Any = GetMessageClass(method.output_type)
        call = channel.unary_unary(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=request.SerializeToString,
            response_deserializer=reply.FromString,
        )
        return int(call(request(item={"name": item}), timeout=10).cents)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Ask what the shop wants for an item.")
    parser.add_argument("--target", default="127.0.0.1:9000", help="where the shop is, 127.0.0.1:9000 if not given")
    parser.add_argument("item", help="such as spoon")
    arguments = parser.parse_args()
    try:
        print(f"{arguments.item}: {price(arguments.target, arguments.item)} cents")
    except grpc.RpcError as error:
        sys.exit(f"{arguments.target} answers {error.code().name}: {error.details()}")
