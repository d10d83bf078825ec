"""What goes where on one node: the plans of processes and transforms, from releases, folders and settings."""

from segue.errors import ReleaseError
from segue.journey import Journey
from segue.model.release import Announcement
from segue.node.folders import Folders
from segue.node.plan import Future, HostPlan, ReleasePlan, Stage
from segue.node.settings import NodeSettings
from segue.node.transforming import TransformTask
from segue.release.manifest import ClassSection, read_manifest


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

    def host_plan(self, release: Announcement, previous: Announcement | None) -> HostPlan:
        """Return the plan of a process that runs `release`; `previous` is the one before it, if it is here."""
        settings = self._settings
        return HostPlan(
            system=settings.system,
            class_name=settings.class_name,
            node_id=settings.node_id,
            address=settings.address,
            attributes=settings.attributes,
            config=settings.config,
            unlabelled=settings.unlabelled,
            max_connection_age_s=settings.max_connection_age_s,
            control=str(self._folders.control(release.version)),
            peer=str(self._folders.peer(release.version)),
            usage=str(self._folders.usage),
            release=self._release_plan(release),
            previous=self._release_plan(previous) if previous else None,
        )

    def stage(self, release: Announcement, future: Announcement | None) -> Stage:
        """Return the folders that `release` runs on, with the future simulation of `future`, if that is installed."""
        return Stage(
            state=str(self._folders.object(release.version)),
            past=str(self._folders.past(release.version)),
            future=self.future(future) if future else None,
        )

    def future(self, release: Announcement) -> Future:
        """Return what the running process needs to simulate `release`."""
        return Future(release=self._release_plan(release), state=str(self._folders.future(release.version)))

    def transform_task(self, release: Announcement, at: Journey) -> TransformTask:
        """Return what the transform from what the node runs to `release` reads."""
        assert at.running is not None, at
        upgrade = self._class_in(release).upgrade
        if upgrade is None:
            raise ReleaseError(f"release {release.version} has no upgrade of class {self._settings.class_name}")
        simulation = self._folders.future(release.version)
        return TransformTask(
            function=upgrade.transform,
            release=self._folders.release(release.sha256),
            version=release.version,
            previous=self._folders.release(at.running.sha256),
            previous_version=at.version,
            old=self._folders.object(at.version),
            simulation=simulation if simulation.exists() else None,
        )

    def _release_plan(self, release: Announcement) -> ReleasePlan:
        described = self._class_in(release)
        upgrade = described.upgrade
        return ReleasePlan(
            version=release.version,
            folder=str(self._folders.release(release.sha256)),
            object=described.object,
            past=upgrade.past if upgrade else None,
            future=upgrade.future if upgrade else None,
        )

    def _class_in(self, release: Announcement) -> ClassSection:
        manifest = read_manifest(self._folders.release(release.sha256))
        return manifest.class_named(self._settings.class_name)
