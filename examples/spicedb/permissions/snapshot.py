"""What is true at one revision, and the questions about it: checks, look-ups and trees."""

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import grpc

from .schema import Arrow, Combined, Computed, Expression, Nobody, Operator, Relation, Schema

#: Questions that one question may lead to, one below the other. Larger, and a long chain may end Python's own stack.
MAX_DEPTH = 50

EVERYONE = "*"


class RefusedError(Exception):
    """A call that is answered with a status.

    Args:
        code: the status.
        message: what is wrong, and with which value.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, order=True)
class Userset:
    """An object, or with a relation all those who are in it; as a question, those who are in a permission."""

    type: str
    id: str
    relation: str = ""

    def __str__(self) -> str:
        return f"{self.type}:{self.id}" + (f"#{self.relation}" if self.relation else "")


@dataclass(frozen=True, slots=True, order=True)
class Relationship:
    """`subject` is in the relation that `resource` names."""

    resource: Userset
    subject: Userset

    def __str__(self) -> str:
        return f"{self.resource}@{self.subject}"


@dataclass(frozen=True, slots=True)
class Leaf:
    """The subjects that relationships name, sets not looked into."""

    expanded: Userset
    subjects: tuple[Userset, ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """How the subjects of the parts are combined."""

    expanded: Userset
    operator: Operator
    parts: tuple["Tree", ...]


Tree: TypeAlias = Leaf | Branch


@dataclass(frozen=True)
class Snapshot:
    """What is true at one revision.

    A question that leads to itself adds nothing to its own answer. One that leads to itself through what is taken away
    by `-` has none: FAILED_PRECONDITION. One that leads to more than `MAX_DEPTH` others: RESOURCE_EXHAUSTED.
    """

    revision: int = 1
    schema: Schema = field(default_factory=Schema)
    relationships: frozenset[Relationship] = frozenset()

    def check(self, question: Userset, subject: Userset) -> bool:
        """Say whether the subject is in the set."""
        return self._is_in(question, subject, {}, 0)

    def look_up(self, type_: str, name: str, subject: Userset) -> list[str]:
        """Return the ids, in order, of the type's objects on which the subject has the permission or relation."""
        mentioned = {userset for each in self.relationships for userset in (each.resource, each.subject)} | {subject}
        ids = {userset.id for userset in mentioned if userset.type == type_} - {EVERYONE}
        return [id_ for id_ in sorted(ids) if self.check(Userset(type_, id_, name), subject)]

    def expand(self, question: Userset, depth: int = 0) -> Tree:
        """Return how the set comes about."""
        if depth > MAX_DEPTH:
            raise RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{question} is more than {MAX_DEPTH} steps away")
        member = self.schema.member(question.type, question.relation)
        if member is None or isinstance(member, Relation):
            return Leaf(question, tuple(self.subjects_of(question)))
        tree = self._expanded(member.expression, question, depth)
        return tree if isinstance(member.expression, Combined) else Branch(question, "+", (tree,))

    def subjects_of(self, resource: Userset) -> list[Userset]:
        """Return the subjects that relationships name for it, in order."""
        return self._subjects.get(resource, [])

    @cached_property
    def _subjects(self) -> dict[Userset, list[Userset]]:
        subjects = defaultdict(list)
        for relationship in sorted(self.relationships):
            subjects[relationship.resource].append(relationship.subject)
        return dict(subjects)

    def _is_in(self, question: Userset, subject: Userset, above: dict[Userset, int], taken: int) -> bool:
        """Answer a question.

        Args:
            question: the set.
            subject: who is sought.
            above: the questions that led here, each with its `taken`.
            taken: how many of the steps that led here went to what is taken away.
        """
        if question == subject:
            return True
        if question in above:
            if above[question] != taken:
                raise RefusedError(grpc.StatusCode.FAILED_PRECONDITION, f"{question} is what is taken away from itself")
            return False
        if len(above) >= MAX_DEPTH:
            raise RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{question} is more than {MAX_DEPTH} steps away")
        member = self.schema.member(question.type, question.relation)
        if member is None:
            return False
        below = {**above, question: taken}
        if isinstance(member, Relation):
            return any(self._covers(direct, subject, below, taken) for direct in self.subjects_of(question))
        return self._holds(member.expression, question, subject, below, taken)

    def _covers(self, direct: Userset, subject: Userset, above: dict[Userset, int], taken: int) -> bool:
        if direct.id == EVERYONE:
            return direct.type == subject.type and not subject.relation
        return direct == subject or (bool(direct.relation) and self._is_in(direct, subject, above, taken))

    def _holds(
        self, expression: Expression, on: Userset, subject: Userset, above: dict[Userset, int], taken: int
    ) -> bool:
        match expression:
            case Nobody():
                return False
            case Computed(name=name):
                return self._is_in(Userset(on.type, on.id, name), subject, above, taken)
            case Arrow():
                return any(self._is_in(end, subject, above, taken) for end in self._ends(expression, on))
            case Combined(operator="+", parts=parts):
                return any(self._holds(part, on, subject, above, taken) for part in parts)
            case Combined(operator="&", parts=parts):
                return all(self._holds(part, on, subject, above, taken) for part in parts)
            case Combined(parts=(first, *rest)):
                return self._holds(first, on, subject, above, taken) and not any(
                    self._holds(part, on, subject, above, taken + 1) for part in rest
                )
        raise AssertionError(f"an expression without meaning: {expression}")

    def _ends(self, arrow: Arrow, on: Userset) -> list[Userset]:
        """Return the questions at the arrow's end, those that have a meaning."""
        starts = self.subjects_of(Userset(on.type, on.id, arrow.relation))
        ends = [Userset(start.type, start.id, arrow.name) for start in starts]
        return [end for end in ends if self.schema.member(end.type, end.relation)]

    def _expanded(self, expression: Expression, on: Userset, depth: int) -> Tree:
        match expression:
            case Nobody():
                return Leaf(on, ())
            case Computed(name=name):
                return self.expand(Userset(on.type, on.id, name), depth + 1)
            case Arrow():
                return Branch(on, "+", tuple(self.expand(end, depth + 1) for end in self._ends(expression, on)))
            case Combined(operator=operator, parts=parts):
                return Branch(on, operator, tuple(self._expanded(part, on, depth) for part in parts))
