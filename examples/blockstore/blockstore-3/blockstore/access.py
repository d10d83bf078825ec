"""Who may read a block: what the nodes know of it, put together."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from . import blockstore_pb2 as messages

#: A list goes with each message about its block.
MAX_READERS = 1000


def fault_of(user: str, access: messages.Access) -> str | None:
    """Say what is wrong with a list that `user` gives; None if nothing is."""
    if not user:
        return "a private block without a user: say in `user` who owns it"
    if len(access.readers) > MAX_READERS:
        return f"{len(access.readers)} readers: a list has at most {MAX_READERS}"
    if not all(access.readers):
        return "a reader without a name: leave it out; to have everybody read it, put the block without a list"
    return None


def admits(grant: messages.Grant, user: str) -> bool:
    """Say whether the grant lets `user` read: its owner, and those on the list."""
    return bool(user) and (user == grant.owner or user in grant.access.readers)


def newest(grants: Iterable[messages.Grant]) -> dict[str, messages.Grant]:
    """Return `{owner: the last of the owner's grants}`; of two with one revision, the same whatever their order."""
    found: dict[str, messages.Grant] = {}
    for grant in grants:
        known = found.get(grant.owner)
        if known is None or _order(known) < _order(grant):
            found[grant.owner] = grant
    return found


def _order(grant: messages.Grant) -> tuple[int, list[str]]:
    return grant.revision, list(grant.access.readers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is known of a block, by one node or by several.

    Attributes:
        public: whether a node has it as a public block; then everybody may read it, whatever the grants say.
        compressed: its content, if it was asked for and a node has it.
        grants: `{owner: grant}`.
    """

    public: bool = False
    compressed: bytes | None = None
    grants: Mapping[str, messages.Grant] = field(default_factory=dict)

    @property
    def kind(self) -> messages.Kind:
        """Whether it is there, and in which way."""
        if self.public:
            return messages.PUBLIC
        return messages.PRIVATE if self.grants else messages.ABSENT

    def may_be_read_by(self, user: str) -> bool:
        """Say whether `user` may read it."""
        return self.public or any(admits(grant, user) for grant in self.grants.values())

    def joined(self, other: "Found") -> "Found":
        """Return what is known by both."""
        return Found(
            public=self.public or other.public,
            compressed=other.compressed if self.compressed is None else self.compressed,
            grants=newest([*self.grants.values(), *other.grants.values()]),
        )


def found_in(reply: messages.FetchReply) -> Found:
    """Return what a node answered."""
    return Found(
        public=reply.kind == messages.PUBLIC,
        compressed=reply.compressed if reply.HasField("compressed") else None,
        grants=newest(reply.grants),
    )
