"""All that was ever written, in memory: each revision with what was true then and what changed."""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import grpc

from .schema import NAME, TYPE, AllowedSubject, Relation, Schema, SchemaError, parse
from .snapshot import EVERYONE, RefusedError, Relationship, Snapshot, Userset

ID = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9/_-]{0,127}")

Operation: TypeAlias = Literal["create", "touch", "delete"]
Matching: TypeAlias = Callable[[Relationship], bool]


@dataclass(frozen=True, slots=True)
class Update:
    """A relationship to be written or deleted; `create` is refused if it is there, the others do not mind."""

    operation: Operation
    relationship: Relationship


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold for a write: `wanted`, some relationship matches, else none does."""

    text: str
    wanted: bool
    matches: Matching


class Store:
    """Revisions, counted from 1, where there is nothing yet.

    No method but `changes` awaits: each write is whole or not there.
    """

    def __init__(self) -> None:
        self._snapshots = [Snapshot()]
        self._updates: list[tuple[Update, ...]] = [()]
        self._grown = asyncio.Event()

    @property
    def latest(self) -> Snapshot:
        """What is true now."""
        return self._snapshots[-1]

    def at(self, revision: int) -> Snapshot:
        """Return what was true at the revision; OUT_OF_RANGE if there is none of that number."""
        if not 1 <= revision <= self.latest.revision:
            raise RefusedError(
                grpc.StatusCode.OUT_OF_RANGE, f"revision {revision}: 1 to {self.latest.revision} are here"
            )
        return self._snapshots[revision - 1]

    def write_schema(self, text: str) -> Snapshot:
        """Replace the schema; INVALID_ARGUMENT if it has no meaning, or none for a relationship that is here."""
        try:
            schema = parse(text)
        except SchemaError as error:
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
        for relationship in sorted(self.latest.relationships):
            try:
                check_relationship(schema, relationship)
            except RefusedError as error:
                raise RefusedError(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"delete {relationship} first, the schema leaves it without meaning",
                ) from error
        return self._add(schema, self.latest.relationships, ())

    def write(self, updates: Iterable[Update], conditions: Iterable[Condition] = ()) -> Snapshot:
        """Do all updates or none; without any, return what is true now.

        Raises:
            RefusedError: a condition does not hold (FAILED_PRECONDITION), what is to be created is there
                (ALREADY_EXISTS), a relationship is there twice or the schema has no meaning for it.
        """
        self._check_conditions(conditions)
        relationships = set(self.latest.relationships)
        seen: set[Relationship] = set()
        done: list[Update] = []
        for update in updates:
            relationship = update.relationship
            check_relationship(self.latest.schema, relationship)
            if relationship in seen:
                raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, f"{relationship} is updated twice")
            seen.add(relationship)
            if update.operation == "create" and relationship in relationships:
                raise RefusedError(grpc.StatusCode.ALREADY_EXISTS, f"{relationship} is there already")
            if update.operation != "delete":
                relationships.add(relationship)
            elif relationship in relationships:
                relationships.remove(relationship)
            else:
                continue
            done.append(update)
        return self._add(self.latest.schema, frozenset(relationships), tuple(done)) if done else self.latest

    def delete(self, matches: Matching, conditions: Iterable[Condition]) -> Snapshot:
        """Delete what matches; FAILED_PRECONDITION if a condition does not hold."""
        matching = [relationship for relationship in sorted(self.latest.relationships) if matches(relationship)]
        return self.write([Update("delete", relationship) for relationship in matching], conditions)

    async def changes(self, after: int) -> AsyncGenerator[tuple[int, tuple[Update, ...]], None]:
        """Yield each revision after `after` with its updates, for ever."""
        self.at(after)
        while True:
            while after < self.latest.revision:
                after += 1
                yield after, self._updates[after - 1]
            await self._grown.wait()

    def _check_conditions(self, conditions: Iterable[Condition]) -> None:
        for condition in conditions:
            if any(map(condition.matches, self.latest.relationships)) != condition.wanted:
                which = "none is" if condition.wanted else "one is"
                raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, f"precondition {condition.text}: {which} here")

    def _add(self, schema: Schema, relationships: frozenset[Relationship], updates: tuple[Update, ...]) -> Snapshot:
        self._snapshots.append(Snapshot(self.latest.revision + 1, schema, relationships))
        self._updates.append(updates)
        self._grown.set()
        self._grown = asyncio.Event()
        return self.latest


def check_names(userset: Userset, *, everyone: bool = False) -> None:
    """Raise INVALID_ARGUMENT unless type, id and relation, if any, are names; `*` is an id if `everyone`."""
    named = ID.fullmatch(userset.id) or (everyone and userset.id == EVERYONE and not userset.relation)
    if not (TYPE.fullmatch(userset.type) and named and (not userset.relation or NAME.fullmatch(userset.relation))):
        raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, f"{str(userset)!r} is not made of names")


def check_known(schema: Schema, type_: str, name: str = "") -> None:
    """Raise FAILED_PRECONDITION unless the schema has the type, and in it that relation or permission if any."""
    if schema.definition(type_) is None:
        raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, f"the schema has no definition {type_}")
    if name and schema.member(type_, name) is None:
        raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, f"the schema has no {name} in definition {type_}")


def check_relationship(schema: Schema, relationship: Relationship) -> None:
    """Raise unless the schema allows the relationship: INVALID_ARGUMENT, or FAILED_PRECONDITION for a name it lacks."""
    resource, subject = relationship.resource, relationship.subject
    check_names(resource)
    check_names(subject, everyone=True)
    for userset in (resource, subject):
        check_known(schema, userset.type, userset.relation)
    relation = schema.member(resource.type, resource.relation)
    allowed = AllowedSubject(subject.type, subject.relation, everyone=subject.id == EVERYONE)
    if not isinstance(relation, Relation) or allowed not in relation.allowed:
        message = f"{relationship}: {resource.type}#{resource.relation} takes no {allowed}"
        raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, message)
