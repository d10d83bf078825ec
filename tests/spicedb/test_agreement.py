"""On any relationships, v0 and v1 answer alike, and as one does who computes all sets from the bottom up."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from permissions.schema import Arrow, Combined, Computed, Expression, Permission, Relation, Schema, parse
from permissions.snapshot import Relationship, Userset
from permissions.stubs import acl_service_pb2 as acl
from permissions.stubs import core_pb2 as core
from permissions.stubs import v1

TEXT = """
definition user {}
definition group {
    relation member: user | group#member | user:*
}
definition folder {
    relation parent: folder
    relation reader: user | group#member
    relation banned: user | group#member
    permission view = (reader + parent->view) & allowed
    permission allowed = reader + parent->allowed
    permission edit = view - banned
}
definition document {
    relation home: folder | group
    relation owner: user
    relation reviewer: user | group#member | folder#view
    permission view = owner + home->view + reviewer
    permission review = reviewer & view - owner - home->banned
    permission share = home->edit - (owner & reviewer)
}
"""
SCHEMA = parse(TEXT)
#: What is taken away is complete before what it is taken from: later strata use only those before with `-`.
STRATA = (("member", "reader", "banned", "parent", "home", "owner"), ("view", "allowed", "reviewer"), ("edit",), ())

IDS = {"user": ("ann", "bob"), "group": ("g1", "g2"), "folder": ("f1", "f2"), "document": ("d1", "d2")}


def possible() -> list[Relationship]:
    """Return all relationships that the schema allows between the objects."""
    found = []
    for definition in SCHEMA.definitions:
        for member, id_ in product(definition.members, IDS[definition.name]):
            for allowed in member.allowed if isinstance(member, Relation) else ():
                for subject in ("*",) if allowed.everyone else IDS[allowed.type]:
                    resource = Userset(definition.name, id_, member.name)
                    found.append(Relationship(resource, Userset(allowed.type, subject, allowed.relation)))
    return found


SUBJECTS = [Userset("user", id_) for id_ in (*IDS["user"], "carl")] + [
    Userset("group", "g1", "member"),
    Userset("folder", "f1", "view"),
]
QUESTIONS = [
    Userset(definition.name, id_, member.name)
    for definition in SCHEMA.definitions
    for id_ in IDS[definition.name]
    for member in definition.members
]


def all_sets(schema: Schema, relationships: list[Relationship]) -> dict[Userset, set[Userset]]:
    """Return who is in each set: each is computed again and again until none grows, what is used with `-` first."""
    sets: dict[Userset, set[Userset]] = {question: {question} & set(SUBJECTS) for question in QUESTIONS}

    def of(expression: Expression, on: Userset) -> set[Userset]:
        match expression:
            case Computed(name=name):
                return sets[Userset(on.type, on.id, name)]
            case Arrow(relation=relation, name=name):
                starts = [each.subject for each in relationships if each.resource == Userset(on.type, on.id, relation)]
                return set().union(*(sets.get(Userset(start.type, start.id, name), set()) for start in starts))
            case Combined(operator=operator, parts=parts):
                result, *others = (of(part, on) for part in parts)
                for other in others:
                    result = (
                        result | other if operator == "+" else result & other if operator == "&" else result - other
                    )
                return result
        raise AssertionError(expression)

    def direct(question: Userset) -> set[Userset]:
        found: set[Userset] = set()
        for subject in (each.subject for each in relationships if each.resource == question):
            if subject.id == "*":
                found |= {each for each in SUBJECTS if each.type == subject.type and not each.relation}
            else:
                found |= sets.get(subject, set()) | ({subject} & set(SUBJECTS))
        return found

    for stratum in STRATA:
        grown = True
        while grown:
            grown = False
            for question in QUESTIONS:
                member = schema.member(question.type, question.relation)
                if stratum and question.relation not in stratum:
                    continue
                now = of(member.expression, question) if isinstance(member, Permission) else direct(question)
                grown |= not now <= sets[question]
                sets[question] |= now
    return sets


def test_the_bottom_up_evaluator_on_what_one_sees_at_once() -> None:
    """It is right where the answer is plain, so that to agree with it means something."""
    written = [
        Relationship(Userset("group", "g1", "member"), Userset("group", "g2", "member")),
        Relationship(Userset("group", "g2", "member"), Userset("group", "g1", "member")),
        Relationship(Userset("group", "g2", "member"), Userset("user", "ann")),
        Relationship(Userset("folder", "f1", "reader"), Userset("group", "g1", "member")),
        Relationship(Userset("folder", "f1", "banned"), Userset("user", "ann")),
    ]
    sets = all_sets(SCHEMA, written)
    assert Userset("user", "ann") in sets[Userset("folder", "f1", "view")]
    assert Userset("user", "bob") not in sets[Userset("folder", "f1", "view")]
    assert Userset("user", "ann") not in sets[Userset("folder", "f1", "edit")]
    assert Userset("group", "g1", "member") in sets[Userset("folder", "f1", "edit")]


def userset(each: Userset) -> core.ObjectAndRelation:
    return core.ObjectAndRelation(namespace=each.type, object_id=each.id, relation=each.relation or "...")


def reference(each: Userset) -> v1.SubjectReference:
    return v1.SubjectReference(
        object=v1.ObjectReference(object_type=each.type, object_id=each.id), optional_relation=each.relation
    )


async def write(clients: Any, relationships: list[Relationship]) -> None:
    """Write the one half in v0, the other in v1."""
    half = len(relationships) // 2
    tuples = [
        core.RelationTuple(object_and_relation=userset(each.resource), user=core.User(userset=userset(each.subject)))
        for each in relationships[:half]
    ]
    touch = core.RelationTupleUpdate.TOUCH
    await clients.acl.Write(
        acl.WriteRequest(updates=[core.RelationTupleUpdate(operation=touch, tuple=each) for each in tuples])
    )
    updates = [
        v1.RelationshipUpdate(
            operation=v1.RelationshipUpdate.OPERATION_TOUCH,
            relationship=v1.Relationship(
                resource=reference(each.resource).object,
                relation=each.resource.relation,
                subject=reference(each.subject),
            ),
        )
        for each in relationships[half:]
    ]
    await clients.v1.WriteRelationships(v1.WriteRelationshipsRequest(updates=updates))


@pytest.mark.timeout(60)
@settings(max_examples=25, deadline=None)
@given(
    relationships=st.lists(st.sampled_from(possible()), unique=True, max_size=14),
    subject=st.sampled_from(SUBJECTS),
    limit=st.integers(0, 2),
)
async def test_all_three_agree(
    served: Callable[[], AbstractAsyncContextManager[Any]],
    relationships: list[Relationship],
    subject: Userset,
    limit: int,
) -> None:
    expected = all_sets(SCHEMA, relationships)
    async with served() as clients:
        await clients.v1.WriteSchema(v1.WriteSchemaRequest(schema=TEXT))
        await write(clients, relationships)
        for question in QUESTIONS:
            past = await clients.acl.Check(
                acl.CheckRequest(test_userset=userset(question), user=core.User(userset=userset(subject)))
            )
            current = await clients.v1.CheckPermission(
                v1.CheckPermissionRequest(
                    resource=reference(question).object, permission=question.relation, subject=reference(subject)
                )
            )
            has = current.permissionship == v1.CheckPermissionResponse.PERMISSIONSHIP_HAS_PERMISSION
            assert (past.is_member, has) == (subject in expected[question],) * 2, question
            assert past.revision.token == current.checked_at.token
        for type_, name in sorted({(question.type, question.relation) for question in QUESTIONS}):
            found = [
                reply.resource_object_id
                async for reply in clients.v1.LookupResources(
                    v1.LookupResourcesRequest(resource_object_type=type_, permission=name, subject=reference(subject))
                )
            ]
            ids = sorted(
                each.id
                for each in QUESTIONS
                if each.type == type_ and each.relation == name and subject in expected[each]
            )
            assert found == await looked_up(clients, type_, name, subject, limit) == ids, (type_, name)


async def looked_up(clients: Any, type_: str, name: str, subject: Userset, limit: int) -> list[str]:
    """Return what v0 finds, page by page."""
    ids: list[str] = []
    page = ""
    while True:
        reply = await clients.acl.Lookup(
            acl.LookupRequest(
                object_relation=core.RelationReference(namespace=type_, relation=name),
                user=userset(subject),
                page_reference=page,
                limit=limit,
            )
        )
        assert not limit or len(reply.resolved_object_ids) <= limit
        assert reply.revision.token
        ids += reply.resolved_object_ids
        page = reply.next_page_reference
        if not page:
            return ids
