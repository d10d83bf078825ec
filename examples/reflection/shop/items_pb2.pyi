from google.protobuf.internal import python_message as _python_message
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor
ORIGIN_FIELD_NUMBER: _ClassVar[int]
origin: _descriptor.FieldDescriptor
WEIGHT_G_FIELD_NUMBER: _ClassVar[int]
weight_g: _descriptor.FieldDescriptor

class Item(_message.Message):
    __slots__ = ("name",)
    Extensions: _python_message._ExtensionDict
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...
