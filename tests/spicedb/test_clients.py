"""What one version's official client does the other's sees; what has no meaning in v1 is refused as `Disallowed`."""

import asyncio
import importlib.util
from pathlib import Path
from typing import Any

import grpc
import pytest
from permissions.stubs import acl_service_pb2 as acl
from permissions.stubs import core_pb2 as core
from permissions.stubs import developer_pb2 as developer
from permissions.stubs import namespace_pb2 as namespaces
from permissions.stubs import namespace_service_pb2 as configs
from permissions.stubs import v1, v1_watch
from permissions.stubs import watch_service_pb2 as watch

import segue

SCHEMA = """definition user {}

definition group {
    relation member: user | group#member
}

definition document {
    relation home: document
    relation owner: user
    relation reader: user | user:* | group#member
    permission view = owner + reader + home->view
    permission edit = owner & (view - reader)
}"""


def userset(text: str) -> core.ObjectAndRelation:
    kind, _, rest = text.partition(":")
    object_id, _, relation = rest.partition("#")
    return core.ObjectAndRelation(namespace=kind, object_id=object_id, relation=relation or "...")


def pair(text: str) -> core.RelationTuple:
    resource, _, subject = text.partition("@")
    return core.RelationTuple(object_and_relation=userset(resource), user=core.User(userset=userset(subject)))


def write(
    *texts: str, operation: int = core.RelationTupleUpdate.CREATE, given: tuple[str, ...] = ()
) -> acl.WriteRequest:
    updates = [core.RelationTupleUpdate(operation=operation, tuple=pair(text)) for text in texts]
    return acl.WriteRequest(updates=updates, write_conditions=[pair(text) for text in given])


def check(text: str) -> acl.CheckRequest:
    question = pair(text)
    return acl.CheckRequest(test_userset=question.object_and_relation, user=question.user)


def texts(tuples: Any) -> list[str]:
    def text(each: core.ObjectAndRelation) -> str:
        return f"{each.namespace}:{each.object_id}" + ("" if each.relation == "..." else f"#{each.relation}")

    return [f"{text(each.object_and_relation)}@{text(each.user.userset)}" for each in tuples]


async def status(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as raised:
        await call
    error: Any = raised.value
    return error.code(), error.details()


async def refusal(call: Any) -> str:
    """Return why a call was disallowed; one that fails otherwise is no such call."""
    with pytest.raises(grpc.RpcError) as raised:
        await call
    refused = segue.refusal_of(raised.value)
    assert refused is not None
    assert refused.reason == "DISALLOWED"
    error: Any = raised.value
    return str(error.details())


@pytest.fixture
async def served_schema(clients: Any) -> Any:
    await clients.v1.WriteSchema(v1.WriteSchemaRequest(schema=SCHEMA))
    return clients


async def test_v0_writes_and_v1_reads(served_schema: Any) -> None:
    """Tuples are relationships, and a Zookie is a ZedToken."""
    written = await served_schema.acl.Write(
        write("document:plan#owner@user:ann", "document:plan#reader@group:all#member", "document:plan#reader@user:*")
    )
    at = v1.Consistency(at_exact_snapshot=v1.ZedToken(token=written.revision.token))
    wanted = v1.RelationshipFilter(resource_type="document")
    request = v1.ReadRelationshipsRequest(consistency=at, relationship_filter=wanted)
    found = [reply async for reply in served_schema.v1.ReadRelationships(request)]
    subjects = [
        (each.relationship.subject.object.object_id, each.relationship.subject.optional_relation) for each in found
    ]
    assert subjects == [("ann", ""), ("all", "member"), ("*", "")]
    assert {each.read_at.token for each in found} == {written.revision.token}


async def test_v1_writes_and_v0_reads(served_schema: Any) -> None:
    """By each of v0's filters, and by those that it names only."""
    ann = v1.SubjectReference(object=v1.ObjectReference(object_type="user", object_id="ann"))
    updates = [
        v1.RelationshipUpdate(
            operation=v1.RelationshipUpdate.OPERATION_CREATE,
            relationship=v1.Relationship(
                resource=v1.ObjectReference(object_type="document", object_id=id_), relation=relation, subject=ann
            ),
        )
        for id_, relation in (("plan", "owner"), ("plan", "reader"), ("minutes", "owner"))
    ]
    written = await served_schema.v1.WriteRelationships(v1.WriteRelationshipsRequest(updates=updates))
    kinds = acl.RelationTupleFilter
    values: dict[str, Any] = {"object_id": "plan", "relation": "owner", "userset": userset("user:ann")}

    def wanted(*filters: int, **others: Any) -> acl.RelationTupleFilter:
        return acl.RelationTupleFilter(namespace="document", filters=filters, **{**values, **others})

    reply = await served_schema.acl.Read(
        acl.ReadRequest(
            tuplesets=[
                wanted(kinds.USERSET, userset=userset("user:bob")),
                wanted(),
                wanted(kinds.OBJECT_ID),
                wanted(kinds.OBJECT_ID, kinds.RELATION),
                wanted(kinds.RELATION, kinds.USERSET),
            ]
        )
    )
    minutes, owner, reader = (f"document:{each}@user:ann" for each in ("minutes#owner", "plan#owner", "plan#reader"))
    assert [texts(each.tuples) for each in reply.tuplesets] == [
        [],
        [minutes, owner, reader],
        [owner, reader],
        [owner],
        [minutes, owner],
    ]
    assert reply.revision.token == written.written_at.token


async def test_a_write_is_conditional_and_whole(served_schema: Any) -> None:
    there, other, new = ("document:plan#owner@user:ann", "document:plan#owner@user:bob", "document:plan#reader@user:*")
    await served_schema.acl.Write(write(there))
    await served_schema.acl.Write(write(new, given=(there,)))
    code, _ = await status(served_schema.acl.Write(write(other, given=(there, "document:plan#reader@user:ann"))))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    code, _ = await status(served_schema.acl.Write(write(other, there)))
    assert code is grpc.StatusCode.ALREADY_EXISTS
    everything = acl.ReadRequest(tuplesets=[acl.RelationTupleFilter(namespace="document")])
    assert texts((await served_schema.acl.Read(everything)).tuplesets[0].tuples) == [there, new]
    await served_schema.acl.Write(write(there, operation=core.RelationTupleUpdate.DELETE))
    assert texts((await served_schema.acl.Read(everything)).tuplesets[0].tuples) == [new]


async def test_checks(served_schema: Any) -> None:
    written = await served_schema.acl.Write(
        write("document:plan#owner@user:ann", "document:plan#reader@group:all#member", "group:all#member@user:bob")
    )
    reply = await served_schema.acl.Check(check("document:plan#view@user:bob"))
    assert (reply.is_member, reply.membership) == (True, acl.CheckResponse.MEMBER)
    assert reply.revision == written.revision
    reply = await served_schema.acl.Check(check("document:plan#edit@user:bob"))
    assert (reply.is_member, reply.membership) == (False, acl.CheckResponse.NOT_MEMBER)
    question = check("document:plan#edit@user:ann")
    content = acl.ContentChangeCheckRequest(test_userset=question.test_userset, user=question.user)
    assert (await served_schema.acl.ContentChangeCheck(content)).is_member
    question.at_revision.CopyFrom(written.revision)
    assert (await served_schema.acl.Check(question)).is_member
    question.at_revision.token = "99"
    code, _ = await status(served_schema.acl.Check(question))
    assert code is grpc.StatusCode.OUT_OF_RANGE


async def test_an_expansion_is_the_same_tree(served_schema: Any) -> None:
    await served_schema.acl.Write(
        write("document:plan#owner@user:ann", "document:plan#home@document:all", "document:all#reader@group:all#member")
    )
    past = await served_schema.acl.Expand(acl.ExpandRequest(userset=userset("document:plan#edit")))
    current = await served_schema.v1.ExpandPermissionTree(
        v1.ExpandPermissionTreeRequest(
            resource=v1.ObjectReference(object_type="document", object_id="plan"), permission="edit"
        )
    )
    assert past.revision.token == current.expanded_at.token

    def old(tree: core.RelationTupleTreeNode) -> Any:
        if tree.HasField("leaf_node"):
            return tree.expanded.relation, [each.userset.object_id for each in tree.leaf_node.users]
        name = core.SetOperationUserset.Operation.Name(tree.intermediate_node.operation)
        return tree.expanded.relation, name, [old(each) for each in tree.intermediate_node.child_nodes]

    def new(tree: v1.PermissionRelationshipTree) -> Any:
        if tree.HasField("leaf"):
            return tree.expanded_relation, [each.object.object_id for each in tree.leaf.subjects]
        name = v1.AlgebraicSubjectSet.Operation.Name(tree.intermediate.operation).removeprefix("OPERATION_")
        return tree.expanded_relation, name, [new(each) for each in tree.intermediate.children]

    empty = ("view", "UNION", [("owner", []), ("reader", ["all"]), ("view", "UNION", [])])
    view = ("view", "UNION", [("owner", ["ann"]), ("reader", []), ("view", "UNION", [empty])])
    edit = ("edit", "INTERSECTION", [("owner", ["ann"]), ("edit", "EXCLUSION", [view, ("reader", [])])])
    assert old(past.tree_node) == new(current.tree_root) == edit


async def test_pages_are_of_one_revision(served_schema: Any) -> None:
    """What is written between two pages is on none of them."""
    await served_schema.acl.Write(write(*(f"document:d{number}#owner@user:ann" for number in range(1, 6))))
    request = acl.LookupRequest(
        object_relation=core.RelationReference(namespace="document", relation="view"),
        user=userset("user:ann"),
        limit=2,
    )
    first = await served_schema.acl.Lookup(request)
    await served_schema.acl.Write(write("document:d30#owner@user:ann"))
    await served_schema.acl.Write(write("document:d4#owner@user:ann", operation=core.RelationTupleUpdate.DELETE))
    request.page_reference = first.next_page_reference
    second = await served_schema.acl.Lookup(request)
    request.page_reference = second.next_page_reference
    third = await served_schema.acl.Lookup(request)
    ids = [list(page.resolved_object_ids) for page in (first, second, third)]
    assert ids == [["d1", "d2"], ["d3", "d4"], ["d5"]]
    assert {page.revision.token for page in (first, second, third)} == {first.revision.token}
    assert not third.next_page_reference
    request.page_reference = "nonsense"
    code, _ = await status(served_schema.acl.Lookup(request))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


async def test_configs_are_the_schema(clients: Any) -> None:
    """v0 reads v1's schema as configs; written back to an empty server, v1 reads the same text."""
    await clients.v1.WriteSchema(v1.WriteSchemaRequest(schema=SCHEMA))
    names = ("user", "group", "document")
    read = [await clients.configs.ReadConfig(configs.ReadConfigRequest(namespace=name)) for name in names]
    assert all(reply.revision.token for reply in read)
    await clients.configs.DeleteConfigs(configs.DeleteConfigsRequest(namespaces=names))
    assert (await clients.v1.ReadSchema(v1.ReadSchemaRequest())).schema_text == ""
    code, _ = await status(clients.configs.ReadConfig(configs.ReadConfigRequest(namespace="user")))
    assert code is grpc.StatusCode.NOT_FOUND
    await clients.configs.WriteConfig(configs.WriteConfigRequest(configs=[reply.config for reply in read]))
    assert (await clients.v1.ReadSchema(v1.ReadSchemaRequest())).schema_text == SCHEMA


async def test_a_config_takes_its_namesakes_place(served_schema: Any) -> None:
    """The other definitions stay; a change that v1 refuses is refused with v1's status."""
    group = (await served_schema.configs.ReadConfig(configs.ReadConfigRequest(namespace="group"))).config
    group.relation.add(name="admin").type_information.CopyFrom(group.relation[0].type_information)
    reply = await served_schema.configs.WriteConfig(configs.WriteConfigRequest(configs=[group]))
    assert reply.revision.token == "3"
    changed = SCHEMA.replace("group#member\n}", "group#member\n    relation admin: user | group#member\n}")
    assert (await served_schema.v1.ReadSchema(v1.ReadSchemaRequest())).schema_text == changed

    code, details = await status(
        served_schema.configs.DeleteConfigs(configs.DeleteConfigsRequest(namespaces=["group"]))
    )
    assert (code, "group#member is not defined" in details) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    code, _ = await status(served_schema.configs.DeleteConfigs(configs.DeleteConfigsRequest(namespaces=["nothing"])))
    assert code is grpc.StatusCode.NOT_FOUND
    await served_schema.acl.Write(write("group:all#admin@user:ann"))
    del group.relation[1]
    code, details = await status(served_schema.configs.WriteConfig(configs.WriteConfigRequest(configs=[group])))
    assert (code, "group:all#admin@user:ann" in details) == (grpc.StatusCode.INVALID_ARGUMENT, True)


async def test_both_watch_what_either_writes(served_schema: Any) -> None:
    start = (await served_schema.acl.Write(write("document:plan#owner@user:ann"))).revision
    past = served_schema.watch.Watch(watch.WatchRequest(namespaces=["document"], start_revision=start))
    cursor = v1.ZedToken(token=start.token)
    current = served_schema.v1_watch.Watch(
        v1_watch.WatchRequest(optional_object_types=["document"], optional_start_cursor=cursor)
    )
    await served_schema.acl.Write(write("group:all#member@user:ann"))
    deleted = await served_schema.v1.DeleteRelationships(
        v1.DeleteRelationshipsRequest(relationship_filter=v1.RelationshipFilter(resource_type="document"))
    )
    old, new = await past.read(), await current.read()
    assert texts(each.tuple for each in old.updates) == ["document:plan#owner@user:ann"]
    assert [each.operation for each in old.updates] == [core.RelationTupleUpdate.DELETE]
    assert [each.operation for each in new.updates] == [v1.RelationshipUpdate.OPERATION_DELETE]
    assert old.end_revision.token == new.changes_through.token == deleted.deleted_at.token
    past.cancel()
    current.cancel()
    code, _ = await status(served_schema.watch.Watch(watch.WatchRequest()).read())
    assert code is grpc.StatusCode.INVALID_ARGUMENT


async def test_configs_are_upgraded_without_being_written(clients: Any) -> None:
    text = 'name: "group" relation { name: "member" type_information { allowed_direct_relations '
    text += '{ namespace: "user" relation: "..." } } }'
    request = developer.UpgradeSchemaRequest(namespace_configs=['name: "user"', text])
    reply = await clients.developer.UpgradeSchema(request)
    assert reply.upgraded_schema == "definition user {}\n\ndefinition group {\n    relation member: user\n}"
    kinds = developer.DeveloperError
    for wrong, kind in (("nonsense", kinds.PARSE_ERROR), (text, kinds.SCHEMA_ISSUE), ("name: 'a'", kinds.SCHEMA_ISSUE)):
        given = [wrong, wrong]
        reply = await clients.developer.UpgradeSchema(developer.UpgradeSchemaRequest(namespace_configs=given))
        assert (reply.error.kind, reply.upgraded_schema) == (kind, ""), wrong


async def test_what_is_disallowed(served_schema: Any) -> None:
    """Each with a text that says what v1 lacks."""
    acls, developers = served_schema.acl, served_schema.developer
    both = namespaces.SetOperation(
        child=[
            namespaces.SetOperation.Child(_this=namespaces.SetOperation.Child.This()),
            namespaces.SetOperation.Child(computed_userset=namespaces.ComputedUserset(relation="owner")),
        ]
    )
    config = namespaces.NamespaceDefinition(
        name="document",
        relation=[namespaces.Relation(name="reader", userset_rewrite=namespaces.UsersetRewrite(union=both))],
    )
    nil = "definition document { permission view = nil }"
    assert "no relation ..." in await refusal(acls.Check(check("document:plan@user:ann")))
    assert "no relation ..." in await refusal(acls.Expand(acl.ExpandRequest(userset=userset("document:plan"))))
    assert "no relation ..." in await refusal(acls.Write(write("document:plan@user:ann")))
    documents = core.RelationReference(namespace="document", relation="...")
    lookup = acl.LookupRequest(object_relation=documents, user=userset("user:ann"))
    assert "no relation ..." in await refusal(acls.Lookup(lookup))
    writing = served_schema.configs.WriteConfig(configs.WriteConfigRequest(configs=[config]))
    assert "both written to and computed" in await refusal(writing)
    await served_schema.v1.WriteSchema(v1.WriteSchemaRequest(schema=nil))
    reading = served_schema.configs.ReadConfig(configs.ReadConfigRequest(namespace="document"))
    assert "nil" in await refusal(reading)
    assert "checks only what was written" in await refusal(developers.EditCheck(developer.EditCheckRequest()))
    assert "validates no" in await refusal(developers.Validate(developer.ValidateRequest()))
    assert "keeps no schemas" in await refusal(developers.Share(developer.ShareRequest()))
    assert "keeps no schemas" in await refusal(developers.LookupShared(developer.LookupShareRequest()))
    assert "formats no" in await refusal(developers.FormatSchema(developer.FormatSchemaRequest()))


async def test_each_version_is_counted(served_schema: Any) -> None:
    await served_schema.acl.Write(write("document:plan#owner@user:ann"))
    calls = {
        (key.caller_version, key.answered_by, key.method): count
        for key, count in served_schema.versions.counts().items()
    }
    assert calls == {
        (2, "current", "/authzed.api.v1.SchemaService/WriteSchema"): 1,
        (1, "past", "/authzed.api.v0.ACLService/Write"): 1,
    }


async def test_the_script_that_calls(clients: Any, example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The official clients without asyncio; the README shows what they print."""
    spec = importlib.util.spec_from_file_location("call_v0", example / "call_v0.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    await asyncio.to_thread(script.call, clients.address)
    assert f"```text\n{capsys.readouterr().out}```" in (example / "README.md").read_text()
