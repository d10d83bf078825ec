"""What can happen to a system: the kinds of entries that its history has."""

from enum import StrEnum


class Kind(StrEnum):
    """What can happen; an operator asks for it by this word."""

    #: A release was published.
    PUBLISHED = "published"
    #: A node was heard of for the first time.
    JOINED = "joined"
    #: A node said that it runs another version than before.
    RUNS = "runs"
    #: A node said that it is in another phase than before.
    PHASE = "phase"
    #: A node said that something failed.
    FAILED = "failed"
    #: A node got a permit.
    GRANTED = "granted"
    #: A permit leads less far than it did, as its node asked for less.
    SHORTENED = "shortened"
    #: A permit came back.
    RETURNED = "returned"
    #: The lease of a permit ended: its node was silent.
    LAPSED = "lapsed"
    #: The node of a permit that had lapsed was heard of again.
    RENEWED = "renewed"
    #: The failure budget of a release was spent: its rollout halted by itself.
    HALTED = "halted"
    #: Such a halt is over.
    LIFTED = "lifted"
    #: An operator did something.
    ACTED = "acted"
