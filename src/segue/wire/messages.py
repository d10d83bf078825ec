"""The messages, as pydantic models: each is checked where it arrives, and taken as it is written or not at all."""

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from segue.model.ids import CONTENT_HASH_PATTERN, NAME_PATTERN
from segue.model.usage import AnsweredBy

#: As RFC 3339 has it.
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)


def _as_written(value: object) -> object:
    """Refuse a number in place of a time: it would be taken for seconds or milliseconds, whichever looks likelier."""
    if isinstance(value, datetime) or (isinstance(value, str) and _MOMENT.fullmatch(value)):
        return value
    raise PydanticCustomError("moment", "Input should be a time and its zone, such as 2030-01-01T12:00:00Z")


def _no_text(value: object) -> object:
    """Refuse what is no number; 2.0 is a whole one, as in all of JSON."""
    if isinstance(value, (str, bytes, bool)):
        raise PydanticCustomError("whole", "Input should be a valid integer")
    return value


#: As the API's description says: text is no number, and neither is true.
_NO_TEXT = BeforeValidator(_no_text)
Whole = Annotated[int, _NO_TEXT]
Real = Annotated[float, Field(strict=True)]
Truth = Annotated[bool, Field(strict=True)]
#: A time with its zone.
Moment = Annotated[AwareDatetime, BeforeValidator(_as_written)]
Name = Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]
#: A database column holds it, hence the upper end.
ReleaseVersion = Annotated[int, Field(ge=1, le=2**31 - 1), _NO_TEXT]
#: A version, or 0 where there is none.
VersionOrNone = Annotated[int, Field(ge=0, le=2**31 - 1), _NO_TEXT]
#: Every reader of JSON has whole numbers up to here, the API's description, too: 9 PB.
AMOUNT_LIMIT = 2**53
#: Bytes, or whatever an author counts.
Amount = Annotated[int, Field(ge=0, le=AMOUNT_LIMIT), _NO_TEXT]
#: Calls of one kind.
Count = Annotated[int, Field(ge=0, le=2**53), _NO_TEXT]
#: What releases say, on a node, against going to them now: `{version: why not}`.
Holds = Annotated[
    dict[Annotated[int, Field(ge=1, le=2**31 - 1)], Annotated[str, Field(max_length=300)]],
    Field(max_length=100),
    WithJsonSchema(  # JSON's keys are text, of which pydantic's own description says nothing
        {
            "type": "object",
            "propertyNames": {"pattern": "^[1-9][0-9]{0,8}$"},
            "additionalProperties": {"type": "string", "maxLength": 300},
            "maxProperties": 100,
        }
    ),
]
#: A traceback: the end of it that is sent is shorter.
DETAILS_LIMIT = 32_000
Sha256 = Annotated[str, Field(pattern=f"^{CONTENT_HASH_PATTERN}$")]


class Message(BaseModel):
    """What all messages share: frozen, and fields unknown to this end survive a round trip."""

    # JSON has no infinity and no NaN: what is let in as one would go out as null.
    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)


class Refusal(Message):
    """Why a request was not done: `family` says who must act, as the families of `segue.errors`."""

    family: Literal["release", "trust", "operator", "peer"]
    message: str


class ReleaseNotice(Message):
    """There is a release."""

    version: ReleaseVersion
    sha256: Sha256
    size_bytes: Amount
    description: str = ""
    published_at: Moment


class UsageRow(Message):
    """Calls of one kind that one process answered since it began; of two rows of a kind the larger count is right.

    `incarnation` tells processes apart, so that a count is never taken for another process's. `caller` is the
    caller's own name, the node's id or the host that the call came from.
    """

    incarnation: str
    node_version: ReleaseVersion
    caller_version: ReleaseVersion
    caller: str
    method: str
    answered_by: AnsweredBy
    from_node: Truth
    outcome: str
    count: Count


class UpgradeRow(Message):
    """One upgrade that a node went through, through one release or several; milliseconds and bytes.

    `hand_over` is how the port passed, as `Condition` has it. With `probation_failed` the new object was in a crash
    loop after it had answered calls.
    """

    from_version: ReleaseVersion
    to_version: ReleaseVersion
    pids: tuple[Whole, Whole]
    pause_ms: Real
    install_future_ms: Real
    transform_ms: Real
    transform_bytes: Amount
    quiesced_at: Moment
    serving_at: Moment
    hand_over: str = "port"
    probation_failed: Truth = False


class ProgressRow(Message):
    """How far a node's transform is, as its author counts; None where nobody said how much there is."""

    items_done: Amount = 0
    items_total: Amount | None = None
    bytes_done: Amount = 0
    bytes_total: Amount | None = None
    seconds_left: Annotated[Real, Field(ge=0)] | None = None

    @property
    def share(self) -> float | None:
        """How much of it is done, 0 to 1: of items or of bytes, whichever is less; None if nobody said of how many."""
        counts = ((self.items_done, self.items_total), (self.bytes_done, self.bytes_total))
        return min(
            (min(1.0, done / total) if total else 1.0 for done, total in counts if total is not None), default=None
        )


class DiskRow(Message):
    """What a node's folder takes, and what room is left there."""

    state_bytes: Amount
    old_bytes: Amount
    releases_bytes: Amount
    free_bytes: Amount
    measured_at: Moment


class Condition(Message):
    """How a node is, beside where it is on its way.

    `hand_over` is how its port passes in an upgrade: "port", without a gap, or "stop and start". `attempts` counts the
    failures of the release that the node is at, one after the other, of `attempts_limit` that it makes by itself
    (None if nobody said); it tries again at `retry_at`. With `waits_for_operator` it has given up, until it is told
    to retry or the next release comes. `crashes` are ends of the application's process that nobody ordered, since the
    agent began.
    """

    hand_over: str = "port"
    progress: ProgressRow | None = None
    attempts: Count = 0
    attempts_limit: Count | None = None
    retry_at: Moment | None = None
    waits_for_operator: Truth = False
    crashes: Count = 0
    disk: DiskRow | None = None


class AgentRow(Message):
    """Which agent speaks for a node, of all that are started with the node's id.

    `folder` is the name that its state folder gave itself, and moves with that; `starts` says how many agents have
    begun on the folder, this one included; `run` is this agent's own name. It reports each `report_s` seconds at least.
    """

    folder: Name
    starts: Count
    run: Name
    report_s: Annotated[Real, Field(ge=0)] = 0.0


class Heartbeat(Condition):
    """What a node says of itself; `version` is 0 until it first serves.

    `answers` are the versions whose calls it answers, oldest first; `usage` has the counts that grew since the last
    heartbeat that was answered, or some of them. `holds` is what releases on its way say, on it, against going there.
    `agent` is None from an agent that is too old to say.
    """

    class_name: Name
    version: VersionOrNone
    address: str
    attributes: dict[str, str] = {}
    phase: str
    target_version: ReleaseVersion | None = None
    pid: Whole | None = None
    answers: tuple[ReleaseVersion, ...] = ()
    failure: str | None = None
    failure_details: Annotated[str, Field(max_length=DETAILS_LIMIT)] = ""
    facts: dict[str, Real] = {}
    usage: tuple[UsageRow, ...] = ()
    upgrades: tuple[UpgradeRow, ...] = ()
    holds: Holds = {}
    agent: AgentRow | None = None


class Alive(Message):
    """A node says again what it said before, which the upgrade server called `tag`; `usage` is as in a heartbeat."""

    tag: Annotated[str, Field(min_length=1, max_length=64)]
    usage: tuple[UsageRow, ...] = ()


class HeartbeatReply(Message):
    """What the upgrade server tells a node that reported: the newest version there is, 0 if none.

    `first` is the version that a node begins with which never ran any; 0 if it is not said, as to one that did.
    `oldest` is the oldest version that is still answered, 0 if none was retired. `retry` names the last order of an
    operator's that the node try again what it gave up; it is carried out once. `tag` is what the server calls what the
    node said: while nothing changes, the node need only say this. With `full` the server asks for all of it. A
    server that gives no tag wants all each time.
    """

    newest: VersionOrNone
    first: VersionOrNone = 0
    oldest: VersionOrNone = 0
    retry: str | None = None
    tag: str | None = None
    full: bool = False


class PermitRequest(Message):
    """A node asks to go away for an upgrade, to `to_version` at most, and to none of `avoided`.

    `holds` is what releases on its way say, on it, against going there now; None from a node that does not say.
    `agent` says who asks, as in a heartbeat.
    `agreed` are those of which the own function has just let it go.
    """

    class_name: Name
    from_version: ReleaseVersion
    to_version: ReleaseVersion
    avoided: tuple[ReleaseVersion, ...] = ()
    holds: Holds | None = None
    agent: AgentRow | None = None
    agreed: tuple[ReleaseVersion, ...] = ()


class FleetNodeRow(Message):
    """A node as a release's own function sees it; `silent` if it was not seen for so long that it counts as away."""

    id: Name
    class_name: Name
    version: VersionOrNone
    attributes: dict[str, str] = {}
    facts: dict[str, float] = {}
    away: bool = False
    silent: bool = False


class FleetRow(Message):
    """A system at one moment, and the release whose own function is to see it."""

    version: ReleaseVersion
    at: AwareDatetime
    nodes: tuple[FleetNodeRow, ...]


class PermitAnswer(Message):
    """Granted, with the permit's id; or not yet, with the reason in words and when to ask again.

    `to_version` is how far the permit leads: as far as was asked, or less. It may be a release that leaves the node's
    class untouched. None if nothing is granted, and from a server that grants one release at a time. `decides` is
    there if nothing holds the node but that the own function of a release has to agree: it is to be asked, with that.
    """

    permit: str | None
    reason: str
    retry_after_s: Annotated[Real, Field(ge=0)] = 1.0
    to_version: ReleaseVersion | None = None
    decides: FleetRow | None = None


class PermitReturnRequest(Message):
    """A node is back; `failure` says why it is not upgraded, None if it is.

    A failure is `final` if the node will not try this release again; else it has passed, or will. `failed_version` is
    that release, where the permit leads through several; without it, each of them is taken to have failed.
    """

    failure: str | None = None
    final: Truth = False
    failed_version: ReleaseVersion | None = None


class NodeStatus(Condition):
    """A node as `segue status` shows it."""

    id: Name
    class_name: Name
    version: int
    address: str
    attributes: dict[str, str]
    phase: str
    target_version: int | None
    away: bool
    waits_for: str | None
    pid: int | None
    #: The versions whose calls the node answers, oldest first.
    answers: tuple[int, ...] = ()
    failure: str | None
    failure_details: str = ""
    facts: dict[str, float]
    last_seen: AwareDatetime
    #: `{caller's version: calls answered}`
    answered: dict[int, int]
    upgrades: tuple[UpgradeRow, ...]
    #: Whether it missed its reports, so that it counts as away.
    silent: bool = False


class PermitStatus(Message):
    """A permit, past or present; `returned_at` is None while the node is away.

    `lapsed_at` is when its lease ended, as the node was silent for so long; None if it is kept alive.
    """

    permit: str
    node: Name
    class_name: Name
    from_version: int
    to_version: int
    granted_at: AwareDatetime
    returned_at: AwareDatetime | None
    failure: str | None
    lapsed_at: AwareDatetime | None = None


class UsageStatus(Message):
    """Calls of the whole system, by who called what with which version and who answered.

    `last_at` is when a node reported the last of them.
    """

    node_version: int
    caller_version: int
    caller: str
    method: str
    answered_by: AnsweredBy
    from_node: bool
    outcome: str
    count: int
    last_at: AwareDatetime


class SystemStatus(Message):
    """A system at one moment."""

    system: Name
    at: AwareDatetime
    releases: tuple[ReleaseNotice, ...]
    nodes: tuple[NodeStatus, ...]
    permits: tuple[PermitStatus, ...]
    usage: tuple[UsageStatus, ...]
