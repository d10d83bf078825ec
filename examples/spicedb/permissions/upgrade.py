"""The past simulation: version 1's calls, which are authzed.api.v0's, on a server whose object answers v1."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, NoReturn

import grpc
from google.protobuf import text_format

import segue

from .configs import ITSELF, to_config, to_definition
from .schema import Definition, Schema, SchemaError, parse
from .stubs import acl_service_pb2 as acl
from .stubs import acl_service_pb2_grpc as acl_services
from .stubs import core_pb2 as core
from .stubs import developer_pb2 as developer
from .stubs import developer_pb2_grpc as developer_services
from .stubs import namespace_pb2 as namespaces
from .stubs import namespace_service_pb2 as configs
from .stubs import namespace_service_pb2_grpc as config_services
from .stubs import v1, v1_watch
from .stubs import watch_service_pb2 as watch
from .stubs import watch_service_pb2_grpc as watch_services


def _disallowed(why: str) -> Callable[..., Awaitable[NoReturn]]:
    """Return a method that v1 has no meaning for."""

    async def refuse(_self: Any, _request: Any, _context: Any) -> NoReturn:
        raise segue.Disallowed(why)

    return refuse


class Version1(
    segue.PastSimulation,
    acl_services.ACLServiceServicer,
    config_services.NamespaceServiceServicer,
    watch_services.WatchServiceServicer,
    developer_services.DeveloperServiceServicer,
):
    """Answers v0 by an object that answers v1. A Zookie is the ZedToken of the same text.

    Args:
        node: not asked for anything: this keeps no state and calls no other node.
        delegate: the object, a servicer of v1.
    """

    def __init__(self, node: segue.Node, delegate: Any) -> None:
        super().__init__(node, delegate)
        self._changing_configs = asyncio.Lock()

    def register(self, server: Any) -> None:
        """Have `server` answer v0's calls with this."""
        acl_services.add_ACLServiceServicer_to_server(self, server)
        config_services.add_NamespaceServiceServicer_to_server(self, server)
        watch_services.add_WatchServiceServicer_to_server(self, server)
        developer_services.add_DeveloperServiceServicer_to_server(self, server)

    async def Read(self, request: acl.ReadRequest, context: Any) -> acl.ReadResponse:
        """Collect v1's streams, one for each filter, all at the revision of the first."""
        if not request.tuplesets or any(map(_lacks, request.tuplesets)):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "give tuplesets, and in each what it filters by")
        reply = acl.ReadResponse()
        consistency = _at_least(request.at_revision)
        for tupleset in request.tuplesets:
            wanted = to_filter(tupleset)

            def read(at: v1.Consistency, wanted: v1.RelationshipFilter = wanted) -> Any:
                question = v1.ReadRelationshipsRequest(consistency=at, relationship_filter=wanted)
                return self.delegate.ReadRelationships(question, context)

            found, token = await self._collect(read, "read_at", consistency, context)
            consistency = v1.Consistency(at_exact_snapshot=token)
            reply.revision.token = token.token
            reply.tuplesets.add(tuples=[to_tuple(each.relationship) for each in found])
        return reply

    async def Write(self, request: acl.WriteRequest, context: Any) -> acl.WriteResponse:
        """Write the updates, with a precondition for each tuple that must be there."""
        reply = await self.delegate.WriteRelationships(
            v1.WriteRelationshipsRequest(
                updates=[
                    v1.RelationshipUpdate(operation=each.operation, relationship=to_relationship(each.tuple))
                    for each in request.updates
                ],
                optional_preconditions=[
                    v1.Precondition(operation=v1.Precondition.OPERATION_MUST_MATCH, filter=_exactly(each))
                    for each in request.write_conditions
                ],
            ),
            context,
        )
        return acl.WriteResponse(revision=_zookie(reply.written_at))

    async def Check(self, request: acl.CheckRequest, context: Any) -> acl.CheckResponse:
        """Check the permission that has the relation's name."""
        return await self._check(request, _at_least(request.at_revision), context)

    async def ContentChangeCheck(self, request: acl.ContentChangeCheckRequest, context: Any) -> acl.CheckResponse:
        """Check as `Check` does, with all that was written before."""
        return await self._check(request, v1.Consistency(fully_consistent=True), context)

    async def Expand(self, request: acl.ExpandRequest, context: Any) -> acl.ExpandResponse:
        """Expand the permission that has the relation's name."""
        resource, permission = _question(request.userset)
        question = v1.ExpandPermissionTreeRequest(
            consistency=_at_least(request.at_revision), resource=resource, permission=permission
        )
        reply = await self.delegate.ExpandPermissionTree(question, context)
        return acl.ExpandResponse(tree_node=to_tree_node(reply.tree_root), revision=_zookie(reply.expanded_at))

    async def Lookup(self, request: acl.LookupRequest, context: Any) -> acl.LookupResponse:
        """Collect v1's stream, in order of ids; a page's reference has its revision, and the last id before it."""
        revision, _, last = request.page_reference.partition("/")
        if request.page_reference and not last:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"no page has the reference {request.page_reference!r}"
            )
        snapshot = v1.Consistency(at_exact_snapshot=v1.ZedToken(token=revision))

        def look_up(at: v1.Consistency) -> Any:
            question = v1.LookupResourcesRequest(
                consistency=at,
                resource_object_type=request.object_relation.namespace,
                permission=_named(request.object_relation.relation),
                subject=to_subject(request.user),
            )
            return self.delegate.LookupResources(question, context)

        consistency = snapshot if last else _at_least(request.at_revision)
        found, token = await self._collect(look_up, "looked_up_at", consistency, context)
        ids = sorted({each.resource_object_id for each in found if each.resource_object_id > last})
        page = ids[: request.limit or None]
        following = f"{token.token}/{page[-1]}" if len(page) < len(ids) else ""
        return acl.LookupResponse(resolved_object_ids=page, next_page_reference=following, revision=_zookie(token))

    async def ReadConfig(self, request: configs.ReadConfigRequest, context: Any) -> configs.ReadConfigResponse:
        """Return the definition of that name as a config; v1 tells only the latest, so that is what is told."""
        token = await self._latest(context)
        definition = (await self._schema(context)).definition(request.namespace)
        if definition is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no namespace {request.namespace}")
            raise AssertionError("a context whose abort returns")
        return configs.ReadConfigResponse(
            namespace=request.namespace, config=to_config(definition), revision=_zookie(token)
        )

    async def WriteConfig(self, request: configs.WriteConfigRequest, context: Any) -> configs.WriteConfigResponse:
        """Put the configs into the schema, each in the place of the definition of its name, or at the end."""
        written = {config.name: to_definition(config) for config in request.configs}
        async with self._changing_configs:
            schema = await self._schema(context)
            kept = [written.pop(each.name, each) for each in schema.definitions]
            token = await self._write_schema([*kept, *written.values()], context)
        return configs.WriteConfigResponse(revision=_zookie(token))

    async def DeleteConfigs(self, request: configs.DeleteConfigsRequest, context: Any) -> configs.DeleteConfigsResponse:
        """Write the schema without the definitions of these names."""
        async with self._changing_configs:
            schema = await self._schema(context)
            for name in request.namespaces:
                if schema.definition(name) is None:
                    await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no namespace {name}")
            kept = [each for each in schema.definitions if each.name not in request.namespaces]
            token = await self._write_schema(kept, context)
        return configs.DeleteConfigsResponse(revision=_zookie(token))

    async def Watch(self, request: watch.WatchRequest, context: Any) -> AsyncIterator[watch.WatchResponse]:
        """Hand on each change when it comes."""
        if not request.namespaces:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "say which namespaces are watched")
        question = v1_watch.WatchRequest(optional_object_types=request.namespaces)
        if request.HasField("start_revision"):
            question.optional_start_cursor.token = request.start_revision.token
        async with aclosing(self.delegate.Watch(question, context)) as replies:
            async for reply in replies:
                updates = [
                    core.RelationTupleUpdate(operation=each.operation, tuple=to_tuple(each.relationship))
                    for each in reply.updates
                ]
                yield watch.WatchResponse(updates=updates, end_revision=_zookie(reply.changes_through))

    async def UpgradeSchema(
        self,
        request: developer.UpgradeSchemaRequest,
        context: Any,  # noqa: ARG002 - gRPC gives it
    ) -> developer.UpgradeSchemaResponse:
        """Return configs, each in protobuf's text format, as a schema's text."""
        try:
            definitions = [
                to_definition(text_format.Parse(text, namespaces.NamespaceDefinition()))
                for text in request.namespace_configs
            ]
            return developer.UpgradeSchemaResponse(upgraded_schema=str(Schema(tuple(definitions))))
        except text_format.ParseError as error:
            kind, message = developer.DeveloperError.PARSE_ERROR, str(error)
        except (SchemaError, segue.Disallowed) as error:
            kind, message = developer.DeveloperError.SCHEMA_ISSUE, str(error)
        fault = developer.DeveloperError(message=message, source=developer.DeveloperError.SCHEMA, kind=kind)
        return developer.UpgradeSchemaResponse(error=fault)

    EditCheck = _disallowed("v1 checks only what was written: write the schema and relationships, then check")
    Validate = _disallowed("v1 validates no relationships, assertions or expectations in YAML")
    Share = LookupShared = _disallowed("v1 keeps no schemas to be shared")
    FormatSchema = _disallowed("v1 formats no schemas, and the text that it returns has no comments")

    async def _check(self, request: Any, consistency: v1.Consistency, context: Any) -> acl.CheckResponse:
        resource, permission = _question(request.test_userset)
        reply = await self.delegate.CheckPermission(
            v1.CheckPermissionRequest(
                consistency=consistency,
                resource=resource,
                permission=permission,
                subject=to_subject(request.user.userset),
            ),
            context,
        )
        is_member = reply.permissionship == v1.CheckPermissionResponse.PERMISSIONSHIP_HAS_PERMISSION
        return acl.CheckResponse(
            is_member=is_member,
            membership=acl.CheckResponse.MEMBER if is_member else acl.CheckResponse.NOT_MEMBER,
            revision=_zookie(reply.checked_at),
        )

    async def _collect(
        self, ask: Callable[[v1.Consistency], Any], token: str, consistency: v1.Consistency, context: Any
    ) -> tuple[list[Any], v1.ZedToken]:
        """Return a stream's replies with their revision; without any, ask again at a known one."""
        replies = [reply async for reply in ask(consistency)]
        if replies:
            return replies, getattr(replies[0], token)
        if consistency.HasField("at_exact_snapshot"):
            return [], consistency.at_exact_snapshot
        latest = await self._latest(context)
        return [reply async for reply in ask(v1.Consistency(at_exact_snapshot=latest))], latest

    async def _latest(self, context: Any) -> v1.ZedToken:
        """Return the latest revision: of all calls of v1, only a write without any update tells it in any case."""
        return (await self.delegate.WriteRelationships(v1.WriteRelationshipsRequest(), context)).written_at

    async def _schema(self, context: Any) -> Schema:
        return parse((await self.delegate.ReadSchema(v1.ReadSchemaRequest(), context)).schema_text)

    async def _write_schema(self, definitions: list[Definition], context: Any) -> v1.ZedToken:
        text = "\n\n".join(map(str, definitions))  # unchecked: v1 says what is wrong with it
        await self.delegate.WriteSchema(v1.WriteSchemaRequest(schema=text), context)
        return await self._latest(context)


def to_subject(userset: core.ObjectAndRelation) -> v1.SubjectReference:
    """Return the userset as a subject: `...` is the object itself."""
    return v1.SubjectReference(
        object=v1.ObjectReference(object_type=userset.namespace, object_id=userset.object_id),
        optional_relation="" if userset.relation == ITSELF else userset.relation,
    )


def to_userset(subject: v1.SubjectReference) -> core.ObjectAndRelation:
    """Return the subject as a userset: `...` is the object itself."""
    return core.ObjectAndRelation(
        namespace=subject.object.object_type,
        object_id=subject.object.object_id,
        relation=subject.optional_relation or ITSELF,
    )


def to_relationship(written: core.RelationTuple) -> v1.Relationship:
    """Return the tuple as a relationship.

    Raises:
        segue.Disallowed: its relation is `...`.
    """
    resource, relation = _question(written.object_and_relation)
    return v1.Relationship(resource=resource, relation=relation, subject=to_subject(written.user.userset))


def to_tuple(relationship: v1.Relationship) -> core.RelationTuple:
    """Return the relationship as a tuple."""
    resource = v1.SubjectReference(object=relationship.resource, optional_relation=relationship.relation)
    return core.RelationTuple(
        object_and_relation=to_userset(resource), user=core.User(userset=to_userset(relationship.subject))
    )


def to_filter(tupleset: acl.RelationTupleFilter) -> v1.RelationshipFilter:
    """Return the filter in v1, with those fields that `filters` names."""
    kinds = acl.RelationTupleFilter
    wanted = v1.RelationshipFilter(resource_type=tupleset.namespace)
    if kinds.OBJECT_ID in tupleset.filters:
        wanted.optional_resource_id = tupleset.object_id
    if kinds.RELATION in tupleset.filters:
        wanted.optional_relation = _named(tupleset.relation)
    if kinds.USERSET in tupleset.filters:
        wanted.optional_subject_filter.CopyFrom(_exact_subject(to_subject(tupleset.userset)))
    return wanted


def to_tree_node(tree: v1.PermissionRelationshipTree) -> core.RelationTupleTreeNode:
    """Return the tree in v0; both versions number the operations alike."""
    expanded = v1.SubjectReference(object=tree.expanded_object, optional_relation=tree.expanded_relation)
    node = core.RelationTupleTreeNode(expanded=to_userset(expanded))
    if tree.HasField("intermediate"):
        node.intermediate_node.operation = tree.intermediate.operation
        node.intermediate_node.child_nodes.extend(map(to_tree_node, tree.intermediate.children))
    else:
        node.leaf_node.SetInParent()
        node.leaf_node.users.extend(core.User(userset=to_userset(subject)) for subject in tree.leaf.subjects)
    return node


def _lacks(tupleset: acl.RelationTupleFilter) -> bool:
    """Say whether a filter lacks a field that it says it filters by."""
    kinds = acl.RelationTupleFilter
    given = {
        kinds.OBJECT_ID: bool(tupleset.object_id),
        kinds.RELATION: bool(tupleset.relation),
        kinds.USERSET: tupleset.HasField("userset"),
    }
    return not all(given.get(kind, False) for kind in tupleset.filters)


def _named(relation: str) -> str:
    if relation == ITSELF:
        raise segue.Disallowed(f"v1 has no relation {ITSELF}: name a relation or a permission of the object")
    return relation


def _question(userset: core.ObjectAndRelation) -> tuple[v1.ObjectReference, str]:
    resource = v1.ObjectReference(object_type=userset.namespace, object_id=userset.object_id)
    return resource, _named(userset.relation)


def _exactly(written: core.RelationTuple) -> v1.RelationshipFilter:
    relationship = to_relationship(written)
    return v1.RelationshipFilter(
        resource_type=relationship.resource.object_type,
        optional_resource_id=relationship.resource.object_id,
        optional_relation=relationship.relation,
        optional_subject_filter=_exact_subject(relationship.subject),
    )


def _exact_subject(subject: v1.SubjectReference) -> v1.SubjectFilter:
    return v1.SubjectFilter(
        subject_type=subject.object.object_type,
        optional_subject_id=subject.object.object_id,
        optional_relation=v1.SubjectFilter.RelationFilter(relation=subject.optional_relation),
    )


def _at_least(zookie: core.Zookie) -> v1.Consistency:
    """Return v1's consistency for v0's `at_revision`: that revision or a later one, any if none is given."""
    if zookie.token:
        return v1.Consistency(at_least_as_fresh=v1.ZedToken(token=zookie.token))
    return v1.Consistency(minimize_latency=True)


def _zookie(token: v1.ZedToken) -> core.Zookie:
    return core.Zookie(token=token.token)
