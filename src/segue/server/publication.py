"""Publishing: a bundle becomes the next release of the system that it names."""

import hashlib
from collections.abc import Sequence
from datetime import datetime

from segue.errors import TrustError
from segue.model.ids import ContentHash
from segue.release.bundle import manifest_of
from segue.server.bundles import Bundles
from segue.server.facts import Release
from segue.server.halts import watch
from segue.server.refusals import HistoryError
from segue.server.store import Store
from segue.wire.messages import ReleaseNotice


def publish(
    store: Store, bundles: Bundles, bundle: bytes, *, sha256: ContentHash, now: datetime
) -> tuple[Release, bool]:
    """Make `bundle` the next release of its system; publishing it again at most restores its lost bytes.

    The author's code is not loaded.

    Args:
        store: where the release is written down.
        bundles: where the bytes are kept; they are there before the release is.
        bundle: as `segue build` made it.
        sha256: what its bytes should hash to.
        now: UTC.

    Returns:
        The release, and whether it is new.

    Raises:
        TrustError: the bytes do not hash to `sha256`.
        ReleaseError: it is no bundle, its manifest is wrong, or its version is not the next one.
        OperatorError: the bytes cannot be kept.
    """
    release = _release_in(bundle, sha256, now)
    before = store.history_of(release.system)
    _check_fits(release, before)
    # Also where it is published already: its file may have been lost since.
    bundles.keep(sha256, bundle)
    # Somebody else may have published meanwhile: the history that counts is the one that stands now.
    published = _as_published(release, store.append(release, watch))
    return published, published == release and release.version > len(before)


def _release_in(bundle: bytes, sha256: ContentHash, now: datetime) -> Release:
    found = hashlib.sha256(bundle).hexdigest()
    if found != sha256:
        raise TrustError(
            f"the bundle has SHA-256 {found}, the request says {sha256}: it changed on its way; send it again"
        )
    manifest = manifest_of(bundle)
    return Release(
        system=manifest.system,
        version=manifest.version,
        sha256=sha256,
        size_bytes=len(bundle),
        description=manifest.description,
        published_at=now,
        manifest=manifest.model_dump_json(exclude_none=True),
    )


def notice_of(release: Release) -> ReleaseNotice:
    """Return what nodes are told of a release."""
    return ReleaseNotice(
        version=release.version,
        sha256=release.sha256,
        size_bytes=release.size_bytes,
        description=release.description,
        published_at=release.published_at,
    )


def _check_fits(release: Release, history: Sequence[Release]) -> None:
    newest = len(history)
    if release.version <= newest:
        _as_published(release, history)
    elif release.version != newest + 1:
        has = f"release {newest}; the next is {newest + 1}" if newest else "no release yet; the first is 1"
        raise HistoryError(f"{release.system} has {has}, this bundle says {release.version}")


def _as_published(release: Release, history: Sequence[Release]) -> Release:
    published = history[release.version - 1]
    if published.sha256 != release.sha256:
        raise HistoryError(
            f"{release.system} has a release {release.version} already, with SHA-256 {published.sha256}, "
            f"this bundle has {release.sha256}: releases never change, publish it as version {len(history) + 1}"
        )
    return published
