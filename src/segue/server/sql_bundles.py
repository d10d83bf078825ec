"""Bundles in the upgrade database, so that each of several servers has them all."""

import hashlib
from collections.abc import Iterator

from sqlalchemy import delete, func, select

from segue.model.ids import ContentHash
from segue.server.databases import Database
from segue.server.schema import BundleRow, PieceRow, table_of

#: What is in memory for each node that fetches.
PIECE_BYTES = 1 << 20

_BUNDLES = table_of(BundleRow)
_PIECES = table_of(PieceRow)


class BundleTable:
    """Keeps bundles by content hash, in pieces.

    Args:
        database: where; its tables are there.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, sha256: ContentHash, bundle: bytes) -> None:
        """Have the bundle in the database, whole, when this returns; a crash before leaves none.

        May run twice; a bundle that was lost or damaged meanwhile is there again.

        Raises:
            PeerError: the database does not answer now.
        """
        if self._is_whole(sha256):
            return
        with self._database.writing() as session:
            # Who publishes the same at once waits here.
            row = self._database.insert(BundleRow).values(sha256=sha256, size_bytes=len(bundle))
            session.execute(
                row.on_conflict_do_update(index_elements=["sha256"], set_={"size_bytes": row.excluded.size_bytes})
            )
            session.execute(delete(_PIECES).where(_PIECES.c.sha256 == sha256))
            for number, begin in enumerate(range(0, len(bundle), PIECE_BYTES)):
                piece = {"sha256": sha256, "number": number, "content": bundle[begin : begin + PIECE_BYTES]}
                session.execute(self._database.insert(PieceRow), [piece])

    def size_of(self, sha256: ContentHash) -> int | None:
        """Return the bundle's size in bytes; None if it is not here."""
        with self._database.reading() as session:
            return session.scalar(select(_BUNDLES.c.size_bytes).where(_BUNDLES.c.sha256 == sha256))

    def read(self, sha256: ContentHash) -> Iterator[bytes]:
        """Yield the bundle piece by piece, each by a question of its own: no connection is held for slow nodes."""
        with self._database.reading() as session:
            pieces = session.scalar(select(func.count()).select_from(_PIECES).where(_PIECES.c.sha256 == sha256)) or 0
        for number in range(pieces):
            with self._database.reading() as session:
                mine = (_PIECES.c.sha256 == sha256) & (_PIECES.c.number == number)
                content = session.execute(select(_PIECES.c.content).where(mine)).scalar_one()
            yield content

    def _is_whole(self, sha256: ContentHash) -> bool:
        if self.size_of(sha256) is None:
            return False
        found = hashlib.sha256()
        for piece in self.read(sha256):
            found.update(piece)
        return found.hexdigest() == sha256

    def __repr__(self) -> str:
        return f"BundleTable({self._database!r})"
