"""Moves a message from one release's class to another's, by what both have in common: the wire format.

Messages of two releases are of two classes, even under one name: neither can be assigned to a field of the
other, copied from it, or compared with it.
"""

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from segue.errors import ReleaseError

M = TypeVar("M", bound=Message)


def convert(message: Message, cls: type[M]) -> M:
    """Return a new message of class `cls` that says on the wire what `message` says.

    What `cls` does not know (a field's number, or a number with a value of another wire type) it keeps as
    unknown fields, and a conversion back finds it again. Enum values go by their numbers, `Any` by its bytes.

    Args:
        message: a message of any release, or of none; it stays as it is.
        cls: the message class to have, such as `v2.Item`.

    Raises:
        ReleaseError: `message` is no message, `cls` is no message class, or `cls` cannot read what `message`
            says: a string in it is not UTF-8, a message in it is not one, a required field is missing.
    """
    if not isinstance(message, Message):
        raise ReleaseError(
            f"segue.convert: expected a protobuf message, found {_shown(message)}; convert what holds it"
        )
    if not (isinstance(cls, type) and issubclass(cls, Message) and hasattr(cls, "DESCRIPTOR")):
        raise ReleaseError(f"segue.convert: expected a message class to convert to, found {_shown(cls)}")
    converted = cls()
    try:
        converted.ParseFromString(message.SerializePartialToString())
    except DecodeError as error:
        raise ReleaseError(
            f"segue.convert: {_shown(cls)} cannot read what {_shown(type(message))} says ({error}): "
            f"their fields differ; convert field by field"
        ) from error
    if not converted.IsInitialized():
        raise ReleaseError(
            f"segue.convert: {_shown(type(message))} says nothing of what {_shown(cls)} requires: "
            f"{', '.join(converted.FindInitializationErrors())}; convert field by field"  # type: ignore[attr-defined]
        )
    return converted


def _shown(thing: object) -> str:
    if not isinstance(thing, type):
        return f"{thing!r:.80} of type {type(thing).__qualname__}"
    return f"{thing.__module__}.{thing.__qualname__}"
