import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ABSENT: _ClassVar[Kind]
    PUBLIC: _ClassVar[Kind]
    PRIVATE: _ClassVar[Kind]
ABSENT: Kind
PUBLIC: Kind
PRIVATE: Kind

class Key(_message.Message):
    __slots__ = ("digest", "position")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    digest: bytes
    position: int
    def __init__(self, digest: _Optional[bytes] = ..., position: _Optional[int] = ...) -> None: ...

class Access(_message.Message):
    __slots__ = ("readers",)
    READERS_FIELD_NUMBER: _ClassVar[int]
    readers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, readers: _Optional[_Iterable[str]] = ...) -> None: ...

class Grant(_message.Message):
    __slots__ = ("owner", "access", "revision")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    ACCESS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    owner: str
    access: Access
    revision: int
    def __init__(self, owner: _Optional[str] = ..., access: _Optional[_Union[Access, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class Grants(_message.Message):
    __slots__ = ("grants",)
    GRANTS_FIELD_NUMBER: _ClassVar[int]
    grants: _containers.RepeatedCompositeFieldContainer[Grant]
    def __init__(self, grants: _Optional[_Iterable[_Union[Grant, _Mapping]]] = ...) -> None: ...

class PutRequest(_message.Message):
    __slots__ = ("content", "user", "access")
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    ACCESS_FIELD_NUMBER: _ClassVar[int]
    content: bytes
    user: str
    access: Access
    def __init__(self, content: _Optional[bytes] = ..., user: _Optional[str] = ..., access: _Optional[_Union[Access, _Mapping]] = ...) -> None: ...

class PutReply(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: Key
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("key", "user")
    KEY_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    key: Key
    user: str
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., user: _Optional[str] = ...) -> None: ...

class GetReply(_message.Message):
    __slots__ = ("content",)
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    content: bytes
    def __init__(self, content: _Optional[bytes] = ...) -> None: ...

class ExistsRequest(_message.Message):
    __slots__ = ("key", "user")
    KEY_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    key: Key
    user: str
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., user: _Optional[str] = ...) -> None: ...

class ExistsReply(_message.Message):
    __slots__ = ("exists",)
    EXISTS_FIELD_NUMBER: _ClassVar[int]
    exists: bool
    def __init__(self, exists: _Optional[bool] = ...) -> None: ...

class GetAccessRequest(_message.Message):
    __slots__ = ("key", "user")
    KEY_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    key: Key
    user: str
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., user: _Optional[str] = ...) -> None: ...

class GetAccessReply(_message.Message):
    __slots__ = ("kind", "grants")
    KIND_FIELD_NUMBER: _ClassVar[int]
    GRANTS_FIELD_NUMBER: _ClassVar[int]
    kind: Kind
    grants: _containers.RepeatedCompositeFieldContainer[Grant]
    def __init__(self, kind: _Optional[_Union[Kind, str]] = ..., grants: _Optional[_Iterable[_Union[Grant, _Mapping]]] = ...) -> None: ...

class SetAccessRequest(_message.Message):
    __slots__ = ("key", "user", "access")
    KEY_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    ACCESS_FIELD_NUMBER: _ClassVar[int]
    key: Key
    user: str
    access: Access
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., user: _Optional[str] = ..., access: _Optional[_Union[Access, _Mapping]] = ...) -> None: ...

class SetAccessReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HoldsRequest(_message.Message):
    __slots__ = ("key", "user")
    KEY_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    key: Key
    user: str
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., user: _Optional[str] = ...) -> None: ...

class HoldsReply(_message.Message):
    __slots__ = ("holds",)
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    holds: bool
    def __init__(self, holds: _Optional[bool] = ...) -> None: ...

class StatRequest(_message.Message):
    __slots__ = ("key", "user")
    KEY_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    key: Key
    user: str
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., user: _Optional[str] = ...) -> None: ...

class StatReply(_message.Message):
    __slots__ = ("size_bytes", "stored_bytes", "stored_at")
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    STORED_BYTES_FIELD_NUMBER: _ClassVar[int]
    STORED_AT_FIELD_NUMBER: _ClassVar[int]
    size_bytes: int
    stored_bytes: int
    stored_at: _timestamp_pb2.Timestamp
    def __init__(self, size_bytes: _Optional[int] = ..., stored_bytes: _Optional[int] = ..., stored_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ScanRequest(_message.Message):
    __slots__ = ("user",)
    USER_FIELD_NUMBER: _ClassVar[int]
    user: str
    def __init__(self, user: _Optional[str] = ...) -> None: ...

class ScanReply(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: Key
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ...) -> None: ...

class StoreRequest(_message.Message):
    __slots__ = ("key", "compressed", "grant")
    KEY_FIELD_NUMBER: _ClassVar[int]
    COMPRESSED_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    key: Key
    compressed: bytes
    grant: Grant
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., compressed: _Optional[bytes] = ..., grant: _Optional[_Union[Grant, _Mapping]] = ...) -> None: ...

class StoreReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("key", "without_content")
    KEY_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_CONTENT_FIELD_NUMBER: _ClassVar[int]
    key: Key
    without_content: bool
    def __init__(self, key: _Optional[_Union[Key, _Mapping]] = ..., without_content: _Optional[bool] = ...) -> None: ...

class FetchReply(_message.Message):
    __slots__ = ("kind", "compressed", "grants")
    KIND_FIELD_NUMBER: _ClassVar[int]
    COMPRESSED_FIELD_NUMBER: _ClassVar[int]
    GRANTS_FIELD_NUMBER: _ClassVar[int]
    kind: Kind
    compressed: bytes
    grants: _containers.RepeatedCompositeFieldContainer[Grant]
    def __init__(self, kind: _Optional[_Union[Kind, str]] = ..., compressed: _Optional[bytes] = ..., grants: _Optional[_Iterable[_Union[Grant, _Mapping]]] = ...) -> None: ...
