import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from shop import items_pb2 as _items_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PriceRequest(_message.Message):
    __slots__ = ("item",)
    ITEM_FIELD_NUMBER: _ClassVar[int]
    item: _items_pb2.Item
    def __init__(self, item: _Optional[_Union[_items_pb2.Item, _Mapping]] = ...) -> None: ...

class PriceReply(_message.Message):
    __slots__ = ("cents", "valid_until")
    CENTS_FIELD_NUMBER: _ClassVar[int]
    VALID_UNTIL_FIELD_NUMBER: _ClassVar[int]
    cents: int
    valid_until: _timestamp_pb2.Timestamp
    def __init__(self, cents: _Optional[int] = ..., valid_until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
