"""Facts that were read before, so that of a large fleet only what changed is read again."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Generic, TypeAlias, TypeVar

Key = TypeVar("Key", bound=Hashable)
Fact = TypeVar("Fact")
#: What tells a fact from what it was before.
Stamp: TypeAlias = tuple[object, ...]


class Kept(Generic[Key, Fact]):
    """Facts by key, each good for as long as its stamp is the same. Any thread may ask."""

    def __init__(self) -> None:
        self._facts: Mapping[Key, tuple[Stamp, Fact]] = {}

    def read(
        self,
        stamps: Sequence[tuple[Key, Stamp]],
        fetch: Callable[[Sequence[Key]], Mapping[Key, tuple[Stamp, Fact]]],
    ) -> list[Fact]:
        """Return the facts of these keys in their order, and forget all others.

        Args:
            stamps: what there is; a stamp says all that the fact depends on.
            fetch: is asked for those that are not kept, or not with that stamp; one that it does not return is left
                out, as it is gone.
        """
        kept = self._facts
        missing = [key for key, stamp in stamps if (known := kept.get(key)) is None or known[0] != stamp]
        if not missing and len(stamps) == len(kept):
            return [kept[key][1] for key, _ in stamps]
        fetched = fetch(missing) if missing else {}
        gone = set(missing).difference(fetched)
        self._facts = facts = {key: fetched.get(key) or kept[key] for key, _ in stamps if key not in gone}
        return [fact for _, fact in facts.values()]

    def __repr__(self) -> str:
        return f"Kept({len(self._facts)})"
