"""The shop's servicer."""

from typing import Any

from . import shop_pb2, shop_pb2_grpc


class Shop(shop_pb2_grpc.ShopServicer):
    """Sells everything; a letter of an item's name costs ten cents."""

    async def Price(self, request: shop_pb2.PriceRequest, context: Any) -> shop_pb2.PriceReply:  # noqa: ARG002
        """Return what an item costs."""
        return shop_pb2.PriceReply(cents=10 * len(request.item.name))
