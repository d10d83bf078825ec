"""What v1's object answers where relationships or requests are not what a caller may have thought."""

from typing import Any

import grpc
import pytest
from permissions.schema import parse
from permissions.snapshot import MAX_DEPTH, RefusedError, Relationship, Snapshot, Userset
from permissions.stubs import v1

GROUPS = "definition user {} definition group { relation member: user | group#member }"


def snapshot(schema: str, *texts: str) -> Snapshot:
    return Snapshot(1, parse(schema), frozenset(Relationship(*map(userset, text.split("@"))) for text in texts))


def userset(text: str) -> Userset:
    kind, _, rest = text.partition(":")
    return Userset(kind, *rest.split("#"))


def test_a_circle_adds_nothing() -> None:
    groups = snapshot(
        GROUPS, "group:a#member@group:b#member", "group:b#member@group:a#member", "group:b#member@user:ann"
    )
    assert groups.check(userset("group:a#member"), userset("user:ann"))
    assert groups.check(userset("group:a#member"), userset("group:a#member"))
    assert not groups.check(userset("group:a#member"), userset("user:bob"))
    assert groups.look_up("group", "member", userset("user:ann")) == ["a", "b"]


def test_a_wildcard_is_for_objects_of_its_type() -> None:
    """Not for sets of them, nor for objects of other types."""
    schema = "definition user {} definition group { relation member: user relation friend: group | group:* }"
    groups = snapshot(schema, "group:a#friend@group:*")
    assert groups.check(userset("group:a#friend"), userset("group:b"))
    assert not groups.check(userset("group:a#friend"), userset("group:b#member"))
    assert not groups.check(userset("group:a#friend"), userset("user:b"))


def test_what_is_taken_away_from_itself_has_no_answer() -> None:
    schema = (
        "definition user {} definition club { relation all: user relation out: club permission in = all - out->in }"
    )
    schema = schema.replace("permission in", "permission inside").replace("out->in ", "out->inside ")
    alone = snapshot(schema, "club:one#all@user:ann", "club:one#out@club:one")
    with pytest.raises(RefusedError) as raised:
        alone.check(userset("club:one#inside"), userset("user:ann"))
    assert raised.value.code is grpc.StatusCode.FAILED_PRECONDITION
    two = snapshot(schema, "club:one#all@user:ann", "club:one#out@club:two", "club:two#all@user:ann")
    assert not two.check(userset("club:one#inside"), userset("user:ann"))
    assert two.check(userset("club:two#inside"), userset("user:ann"))


def test_a_chain_has_an_end() -> None:
    def chain(length: int) -> Snapshot:
        links = [f"group:g{number}#member@group:g{number + 1}#member" for number in range(1, length)]
        return snapshot(GROUPS, *links, f"group:g{length}#member@user:ann")

    assert chain(MAX_DEPTH).check(userset("group:g1#member"), userset("user:ann"))
    with pytest.raises(RefusedError) as raised:
        chain(MAX_DEPTH + 1).check(userset("group:g1#member"), userset("user:ann"))
    assert raised.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    folders = "definition user {} definition folder { relation home: folder permission view = home->view }"
    with pytest.raises(RefusedError) as raised:
        snapshot(folders, "folder:one#home@folder:one").expand(userset("folder:one#view"))
    assert raised.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def reference(text: str) -> v1.SubjectReference:
    each = userset(text)
    object_ = v1.ObjectReference(object_type=each.type, object_id=each.id)
    return v1.SubjectReference(object=object_, optional_relation=each.relation)


def update(text: str, operation: int = v1.RelationshipUpdate.OPERATION_CREATE) -> v1.RelationshipUpdate:
    resource, subject = map(reference, text.split("@"))
    relationship = v1.Relationship(resource=resource.object, relation=resource.optional_relation, subject=subject)
    return v1.RelationshipUpdate(operation=operation, relationship=relationship)


def checking(text: str, **consistency: Any) -> v1.CheckPermissionRequest:
    resource, subject = map(reference, text.split("@"))
    return v1.CheckPermissionRequest(
        consistency=v1.Consistency(**consistency),
        resource=resource.object,
        permission=resource.optional_relation,
        subject=subject,
    )


async def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as raised:
        await call
    error: Any = raised.value
    code: grpc.StatusCode = error.code()
    return code


@pytest.mark.parametrize(
    ("texts", "code"),
    [
        (["group:all#member@user:*"], grpc.StatusCode.INVALID_ARGUMENT),
        (["group:all#member@group:some"], grpc.StatusCode.INVALID_ARGUMENT),
        (["group:*#member@user:ann"], grpc.StatusCode.INVALID_ARGUMENT),
        (["group:a b#member@user:ann"], grpc.StatusCode.INVALID_ARGUMENT),
        (["group:all#member@user:ann"] * 2, grpc.StatusCode.INVALID_ARGUMENT),
        (["group:all#admin@user:ann"], grpc.StatusCode.FAILED_PRECONDITION),
        (["team:all#member@user:ann"], grpc.StatusCode.FAILED_PRECONDITION),
    ],
)
async def test_what_is_not_written(clients: Any, texts: list[str], code: grpc.StatusCode) -> None:
    await clients.v1.WriteSchema(v1.WriteSchemaRequest(schema=GROUPS))
    updates = [update("group:some#member@user:ann"), *map(update, texts)]
    assert await code_of(clients.v1.WriteRelationships(v1.WriteRelationshipsRequest(updates=updates))) is code
    group = v1.RelationshipFilter(resource_type="group")
    request = v1.ReadRelationshipsRequest(relationship_filter=group)
    assert [each async for each in clients.v1.ReadRelationships(request)] == []


async def test_preconditions(clients: Any) -> None:
    await clients.v1.WriteSchema(v1.WriteSchemaRequest(schema=GROUPS))
    some = v1.RelationshipFilter(
        resource_type="group", optional_subject_filter=v1.SubjectFilter(subject_type="user", optional_subject_id="ann")
    )

    def delete(operation: int) -> Any:
        condition = v1.Precondition(operation=operation, filter=some)
        return clients.v1.DeleteRelationships(
            v1.DeleteRelationshipsRequest(
                relationship_filter=v1.RelationshipFilter(resource_type="group"), optional_preconditions=[condition]
            )
        )

    must, must_not = v1.Precondition.OPERATION_MUST_MATCH, v1.Precondition.OPERATION_MUST_NOT_MATCH
    assert await code_of(delete(must)) is grpc.StatusCode.FAILED_PRECONDITION
    await delete(must_not)
    await clients.v1.WriteRelationships(v1.WriteRelationshipsRequest(updates=[update("group:all#member@user:ann")]))
    assert await code_of(delete(must_not)) is grpc.StatusCode.FAILED_PRECONDITION
    assert await code_of(delete(v1.Precondition.OPERATION_UNSPECIFIED)) is grpc.StatusCode.INVALID_ARGUMENT
    await delete(must)
    await delete(must_not)


async def test_a_revision_stays_what_it_was(clients: Any) -> None:
    await clients.v1.WriteSchema(v1.WriteSchemaRequest(schema=GROUPS))
    written = v1.WriteRelationshipsRequest(updates=[update("group:all#member@user:ann")])
    before = (await clients.v1.WriteRelationships(written)).written_at
    deleted = update("group:all#member@user:ann", v1.RelationshipUpdate.OPERATION_DELETE)
    await clients.v1.WriteRelationships(v1.WriteRelationshipsRequest(updates=[deleted]))
    has = v1.CheckPermissionResponse.PERMISSIONSHIP_HAS_PERMISSION
    text = "group:all#member@user:ann"
    exact = await clients.v1.CheckPermission(checking(text, at_exact_snapshot=before))
    assert (exact.permissionship, exact.checked_at) == (has, before)
    fresh = await clients.v1.CheckPermission(checking(text, at_least_as_fresh=before))
    assert fresh.permissionship == v1.CheckPermissionResponse.PERMISSIONSHIP_NO_PERMISSION
    for token, code in (("9", grpc.StatusCode.OUT_OF_RANGE), ("x", grpc.StatusCode.INVALID_ARGUMENT)):
        wrong = checking(text, at_exact_snapshot=v1.ZedToken(token=token))
        assert await code_of(clients.v1.CheckPermission(wrong)) is code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("group:all#member@user:*", grpc.StatusCode.INVALID_ARGUMENT),
        ("group:all#@user:ann", grpc.StatusCode.INVALID_ARGUMENT),
        ("group:all#admin@user:ann", grpc.StatusCode.FAILED_PRECONDITION),
        ("group:all#member@robot:ann", grpc.StatusCode.FAILED_PRECONDITION),
    ],
)
async def test_what_is_not_checked(clients: Any, text: str, code: grpc.StatusCode) -> None:
    await clients.v1.WriteSchema(v1.WriteSchemaRequest(schema=GROUPS))
    assert await code_of(clients.v1.CheckPermission(checking(text))) is code
