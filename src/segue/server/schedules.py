"""What a release's schedules name that an operator speaks of: gates. Pure."""

import json
from functools import lru_cache
from typing import Any

from segue.server.store import Release


def gates(release: Release) -> frozenset[str]:
    """Return the names of the gates that the schedules of a release wait at for an operator's approval."""
    return _gates(release.manifest)


@lru_cache(maxsize=256)
def _gates(manifest: str) -> frozenset[str]:
    # Read as plain JSON: a gate is what is called so, in whatever form later manifests have it.
    classes: dict[str, Any] = json.loads(manifest).get("classes", {})
    found: set[str] = set()
    for described in classes.values():
        schedule = (described.get("upgrade") or {}).get("schedule") or {}
        gate = schedule.get("gate")
        for one in gate if isinstance(gate, list) else [gate]:
            name = one.get("name") if isinstance(one, dict) else one
            if isinstance(name, str):
                found.add(name)
    return frozenset(found)
