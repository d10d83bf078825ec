"""What goes where on one node: the plans of processes and transforms, from releases, folders and settings."""

from collections.abc import Sequence
from itertools import pairwise

from segue.errors import ReleaseError
from segue.journey import Journey
from segue.model.ids import ContentHash, Version
from segue.model.release import Announcement
from segue.node.folders import Folders
from segue.node.handover import mode_of
from segue.node.plan import Carry, Future, HostPlan, ReleasePlan, SimulationPlan, Stage
from segue.node.settings import NodeSettings
from segue.node.transform_process import TransformTask
from segue.release.manifest import ClassSection, Manifest, read_manifest


class Placement:
    """Makes the plans of one node. Each method reads the manifest of a release that is unpacked here.

    Args:
        settings: the node's settings.
        folders: the node's places on disk.

    Raises (every method):
        ReleaseError: the release has not this node's class.
    """

    def __init__(self, settings: NodeSettings, folders: Folders) -> None:
        self._settings = settings
        self._folders = folders
        #: The oldest version that is to be answered: releases below it are not needed any more.
        self.oldest = Version(0)
        #: By content, so never out of date.
        self._manifests: dict[ContentHash, Manifest] = {}

    def host_plan(self, at: Journey) -> HostPlan:
        """Return the plan of the process that runs what `at` says the node runs."""
        assert at.running is not None, at
        settings, folders, version = self._settings, self._folders, at.object_version
        past = [release for release in at.past if release.version >= self.oldest]
        return HostPlan(
            system=settings.system,
            class_name=settings.class_name,
            node_id=settings.node_id,
            address=settings.address,
            attributes=settings.attributes,
            config=settings.config,
            unlabelled=settings.unlabelled,
            max_connection_age_s=settings.max_connection_age_s,
            max_message_bytes=settings.max_message_mib << 20,
            park_limit_s=settings.park_limit_s,
            control=str(folders.control(at.generation)),
            peer=str(folders.peer(at.generation)),
            answered=str(folders.answered(version)),
            usage=str(folders.usage),
            releases=tuple(self._release_plan(release) for release in self._touching((*past, at.running))),
            listen=settings.listen,
            tls=settings.tls,
            hand_over=mode_of(settings.hand_over),
            park_calls=settings.park_calls,
            park_bytes=settings.park_mib << 20,
            stream_grace_s=settings.stream_grace_s,
            drain_limit_s=settings.drain_limit_s,
            oldest=self.oldest,
        )

    def stage(self, at: Journey) -> Stage:
        """Return what the process that runs what `at` says the node runs starts on."""
        return Stage(
            state=str(self._folders.object(at.object_version)),
            carries=at.version,
            futures=tuple(self.future(future.release) for future in at.futures),
        )

    def future(self, release: Announcement) -> Future:
        """Return what a process needs to answer `release`, which is above what it runs."""
        plan = self._release_plan(release)
        return Carry(version=release.version) if plan.future is None else plan

    def imports(self, at: Journey) -> list[ReleasePlan]:
        """Return the releases whose future simulations that process will install, so that it can import them early."""
        return [future for future in self.stage(at).futures if isinstance(future, ReleasePlan)]

    def predicate(self, release: Announcement) -> str | None:
        """Return the code of the release that says whether the node may go to it now; None if it has none."""
        upgrade = self._class_in(release).upgrade
        return upgrade.schedule.when if upgrade else None

    def own_function(self, release: Announcement) -> str | None:
        """Return the code of the release that decides with the fleet in view; None if it has none."""
        upgrade = self._class_in(release).upgrade
        return upgrade.schedule.custom if upgrade else None

    def is_untouched(self, release: Announcement) -> bool:
        """Say whether the release leaves the node's class as it was."""
        return self._class_in(release).upgrade is None

    def first(self, releases: Sequence[Announcement]) -> Version:
        """Return the newest version that touches the class, whose code a new node runs.

        Args:
            releases: all that the node is to answer, oldest first.
        """
        self._class_in(releases[-1])
        return self._touching(releases)[-1].version

    def transform_tasks(self, at: Journey) -> dict[Version, TransformTask]:
        """Return what the transforms on the way of the upgrade under way read: `{version that is made: task}`."""
        assert at.running is not None, at
        assert at.upgrade is not None, at
        steps = pairwise((at.running, *at.upgrade.way))
        return {release.version: self._transform_task(previous, release) for previous, release in steps}

    def _transform_task(self, previous: Announcement, release: Announcement) -> TransformTask:
        upgrade = self._class_in(release).upgrade
        if upgrade is None:
            raise ReleaseError(f"release {release.version} has no upgrade of class {self._settings.class_name}")
        simulation = self._folders.future(release.version)
        return TransformTask(
            function=upgrade.transform,
            release=self._folders.release(release.sha256),
            version=release.version,
            previous=self._folders.release(previous.sha256),
            previous_version=previous.version,
            old=self._folders.object(previous.version),
            simulation=simulation if simulation.exists() else None,
            disk=upgrade.disk,
        )

    def _touching(self, releases: Sequence[Announcement]) -> list[Announcement]:
        """Leave out those that have not the class yet, and those that leave it untouched."""
        found: list[Announcement] = []
        for release in releases:
            described = self._manifest(release).classes.get(self._settings.class_name)
            if described is not None and (described.upgrade is not None or not found):
                found.append(release)
        return found

    def _release_plan(self, release: Announcement) -> ReleasePlan:
        described, folders, version = self._class_in(release), self._folders, release.version
        upgrade = described.upgrade
        return ReleasePlan(
            version=version,
            folder=str(folders.release(release.sha256)),
            object=described.object,
            past=SimulationPlan(code=upgrade.past, state=str(folders.past(version))) if upgrade else None,
            future=SimulationPlan(code=upgrade.future, state=str(folders.future(version))) if upgrade else None,
        )

    def _class_in(self, release: Announcement) -> ClassSection:
        return self._manifest(release).class_named(self._settings.class_name)

    def _manifest(self, release: Announcement) -> Manifest:
        if release.sha256 not in self._manifests:
            self._manifests[release.sha256] = read_manifest(self._folders.release(release.sha256))
        return self._manifests[release.sha256]
