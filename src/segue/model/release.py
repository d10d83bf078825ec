"""A release as the upgrade server announces it, before anybody has fetched it."""

from dataclasses import dataclass

from segue.model.ids import ContentHash, Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """There is a release: its place in history, and the bundle that holds it.

    Attributes:
        version: its place in its system's history.
        sha256: of the bundle's bytes; also its address at the upgrade server.
        size_bytes: of the bundle.
    """

    version: Version
    sha256: ContentHash
    size_bytes: int
