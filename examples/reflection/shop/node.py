"""The shop's servicer."""

from typing import Any

import grpc

from . import shop_pb2, shop_pb2_grpc

_CENTS = {"fork": 60, "knife": 70, "spoon": 50}


class Shop(shop_pb2_grpc.ShopServicer):
    """Sells cutlery."""

    async def Price(self, request: shop_pb2.PriceRequest, context: Any) -> shop_pb2.PriceReply:
        """Return what an item costs; NOT_FOUND if it is not sold here."""
        name = request.item.name
        if name not in _CENTS:
            sold = ", ".join(_CENTS)
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no item {name!r} is sold here: ask for one of {sold}")
        return shop_pb2.PriceReply(cents=_CENTS[name])
