"""The object: answers authzed.api.v1, and knows of no other version."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc

from .snapshot import Branch, RefusedError, Relationship, Snapshot, Tree, Userset
from .store import Condition, Matching, Operation, Store, Update, check_known, check_names
from .stubs import v1, v1_permissions, v1_schema, v1_watch, v1_watch_services

_OPERATIONS: dict[int, Operation] = {
    v1.RelationshipUpdate.OPERATION_CREATE: "create",
    v1.RelationshipUpdate.OPERATION_TOUCH: "touch",
    v1.RelationshipUpdate.OPERATION_DELETE: "delete",
}
_OPERATION_NUMBERS = {operation: number for number, operation in _OPERATIONS.items()}
_OPERATORS = {
    "+": v1.AlgebraicSubjectSet.OPERATION_UNION,
    "&": v1.AlgebraicSubjectSet.OPERATION_INTERSECTION,
    "-": v1.AlgebraicSubjectSet.OPERATION_EXCLUSION,
}


class Permissions(
    v1_permissions.PermissionsServiceServicer, v1_schema.SchemaServiceServicer, v1_watch_services.WatchServiceServicer
):
    """Who may do what with which object. A ZedToken is the number of a revision; every one is kept."""

    def __init__(self) -> None:
        self.store = Store()

    def register(self, server: Any) -> None:
        """Have `server` answer v1's calls with this."""
        v1_permissions.add_PermissionsServiceServicer_to_server(self, server)
        v1_schema.add_SchemaServiceServicer_to_server(self, server)
        v1_watch_services.add_WatchServiceServicer_to_server(self, server)

    async def ReadSchema(
        self,
        request: v1.ReadSchemaRequest,  # noqa: ARG002 - it is empty
        context: Any,  # noqa: ARG002 - gRPC gives it
    ) -> v1.ReadSchemaResponse:
        """Return the schema's text, empty if none was written."""
        return v1.ReadSchemaResponse(schema_text=str(self.store.latest.schema))

    async def WriteSchema(self, request: v1.WriteSchemaRequest, context: Any) -> v1.WriteSchemaResponse:
        """Replace the schema."""
        async with _refusals(context):
            self.store.write_schema(request.schema)
        return v1.WriteSchemaResponse()

    async def WriteRelationships(
        self, request: v1.WriteRelationshipsRequest, context: Any
    ) -> v1.WriteRelationshipsResponse:
        """Write all or nothing; an empty request changes nothing and tells the revision."""
        async with _refusals(context):
            conditions = [self._condition(each) for each in request.optional_preconditions]
            written = self.store.write([_update(each) for each in request.updates], conditions)
        return v1.WriteRelationshipsResponse(written_at=_token(written.revision))

    async def DeleteRelationships(
        self, request: v1.DeleteRelationshipsRequest, context: Any
    ) -> v1.DeleteRelationshipsResponse:
        """Delete what the filter matches."""
        async with _refusals(context):
            conditions = [self._condition(each) for each in request.optional_preconditions]
            deleted = self.store.delete(_matching(self.store.latest, request.relationship_filter), conditions)
        return v1.DeleteRelationshipsResponse(deleted_at=_token(deleted.revision))

    async def ReadRelationships(
        self, request: v1.ReadRelationshipsRequest, context: Any
    ) -> AsyncIterator[v1.ReadRelationshipsResponse]:
        """Yield what the filter matches, in order."""
        async with _refusals(context):
            snapshot = self._at(request.consistency)
            matches = _matching(snapshot, request.relationship_filter)
        for relationship in filter(matches, sorted(snapshot.relationships)):
            yield v1.ReadRelationshipsResponse(read_at=_token(snapshot.revision), relationship=_in_v1(relationship))

    async def CheckPermission(self, request: v1.CheckPermissionRequest, context: Any) -> v1.CheckPermissionResponse:
        """Say whether the subject has the permission, or is in the relation."""
        async with _refusals(context):
            snapshot = self._at(request.consistency)
            question = _question(snapshot, request.resource, request.permission)
            has = snapshot.check(question, _subject(snapshot, request.subject))
        return v1.CheckPermissionResponse(
            checked_at=_token(snapshot.revision),
            permissionship=v1.CheckPermissionResponse.PERMISSIONSHIP_HAS_PERMISSION
            if has
            else v1.CheckPermissionResponse.PERMISSIONSHIP_NO_PERMISSION,
        )

    async def ExpandPermissionTree(
        self, request: v1.ExpandPermissionTreeRequest, context: Any
    ) -> v1.ExpandPermissionTreeResponse:
        """Say how the permission comes about."""
        async with _refusals(context):
            snapshot = self._at(request.consistency)
            tree = snapshot.expand(_question(snapshot, request.resource, request.permission))
        return v1.ExpandPermissionTreeResponse(expanded_at=_token(snapshot.revision), tree_root=_tree(tree))

    async def LookupResources(
        self, request: v1.LookupResourcesRequest, context: Any
    ) -> AsyncIterator[v1.LookupResourcesResponse]:
        """Yield the objects of a type on which the subject has the permission."""
        async with _refusals(context):
            snapshot = self._at(request.consistency)
            check_known(snapshot.schema, request.resource_object_type, request.permission)
            if not request.permission:
                raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "name a permission or a relation")
            subject = _subject(snapshot, request.subject)
            ids = snapshot.look_up(request.resource_object_type, request.permission, subject)
        for id_ in ids:
            yield v1.LookupResourcesResponse(looked_up_at=_token(snapshot.revision), resource_object_id=id_)

    async def Watch(self, request: v1_watch.WatchRequest, context: Any) -> AsyncIterator[v1_watch.WatchResponse]:
        """Yield each later change of relationships, if types are given only of resources of these types."""
        types = set(request.optional_object_types)
        async with _refusals(context):
            cursor = request.optional_start_cursor.token
            start = self._revision(cursor) if cursor else self.store.latest.revision
        async with aclosing(self.store.changes(start)) as changes:
            async for revision, updates in changes:
                told = [update for update in updates if not types or update.relationship.resource.type in types]
                if told:
                    yield v1_watch.WatchResponse(
                        updates=[
                            v1.RelationshipUpdate(
                                operation=_OPERATION_NUMBERS[update.operation], relationship=_in_v1(update.relationship)
                            )
                            for update in told
                        ],
                        changes_through=_token(revision),
                    )

    def _at(self, consistency: v1.Consistency) -> Snapshot:
        """Return what a question is about: the latest, unless an exact revision is wanted."""
        which = consistency.WhichOneof("requirement")
        if which in ("at_exact_snapshot", "at_least_as_fresh"):
            wanted = self.store.at(self._revision(getattr(consistency, which).token))
            return wanted if which == "at_exact_snapshot" else self.store.latest
        return self.store.latest

    def _revision(self, token: str) -> int:
        if not (token.isascii() and token.isdecimal()):
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, f"{token!r} is no ZedToken of this service")
        return self.store.at(int(token)).revision

    def _condition(self, precondition: v1.Precondition) -> Condition:
        if precondition.operation == v1.Precondition.OPERATION_UNSPECIFIED:
            raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "say what operation a precondition has")
        wanted = precondition.operation == v1.Precondition.OPERATION_MUST_MATCH
        text = f"{'must' if wanted else 'must not'} match {_filter_text(precondition.filter)}"
        return Condition(text, wanted, _matching(self.store.latest, precondition.filter))


@asynccontextmanager
async def _refusals(context: Any) -> AsyncIterator[None]:
    """Answer a refusal with its status."""
    try:
        yield
    except RefusedError as error:
        await context.abort(error.code, str(error))


def _token(revision: int) -> v1.ZedToken:
    return v1.ZedToken(token=str(revision))


def _question(snapshot: Snapshot, resource: v1.ObjectReference, permission: str) -> Userset:
    question = Userset(resource.object_type, resource.object_id, permission)
    check_names(question)
    check_known(snapshot.schema, question.type, permission)
    if not permission:
        raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "name a permission or a relation")
    return question


def _subject(snapshot: Snapshot, reference: v1.SubjectReference) -> Userset:
    subject = _subject_of(reference)
    check_names(subject)
    check_known(snapshot.schema, subject.type, subject.relation)
    return subject


def _subject_of(reference: v1.SubjectReference) -> Userset:
    return Userset(reference.object.object_type, reference.object.object_id, reference.optional_relation)


def _update(update: v1.RelationshipUpdate) -> Update:
    operation = _OPERATIONS.get(update.operation)
    if operation is None:
        raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, "say what operation an update has")
    written = update.relationship
    resource = Userset(written.resource.object_type, written.resource.object_id, written.relation)
    return Update(operation, Relationship(resource, _subject_of(written.subject)))


def _in_v1(relationship: Relationship) -> v1.Relationship:
    resource, subject = relationship.resource, relationship.subject
    return v1.Relationship(resource=_object(resource), relation=resource.relation, subject=_reference(subject))


def _object(userset: Userset) -> v1.ObjectReference:
    return v1.ObjectReference(object_type=userset.type, object_id=userset.id)


def _reference(userset: Userset) -> v1.SubjectReference:
    return v1.SubjectReference(object=_object(userset), optional_relation=userset.relation)


def _tree(tree: Tree) -> v1.PermissionRelationshipTree:
    expanded = tree.expanded
    reply = v1.PermissionRelationshipTree(expanded_object=_object(expanded), expanded_relation=expanded.relation)
    if isinstance(tree, Branch):
        reply.intermediate.operation = _OPERATORS[tree.operator]
        reply.intermediate.children.extend(map(_tree, tree.parts))
    else:
        reply.leaf.SetInParent()
        reply.leaf.subjects.extend(map(_reference, tree.subjects))
    return reply


def _matching(snapshot: Snapshot, wanted: v1.RelationshipFilter) -> Matching:
    """Return what the filter matches; a name that the schema has not is refused."""
    check_known(snapshot.schema, wanted.resource_type, wanted.optional_relation)
    has_subject = wanted.HasField("optional_subject_filter")
    of_subject = wanted.optional_subject_filter
    has_relation = has_subject and of_subject.HasField("optional_relation")
    if has_subject:
        check_known(snapshot.schema, of_subject.subject_type, of_subject.optional_relation.relation)

    def matches(relationship: Relationship) -> bool:
        resource, subject = relationship.resource, relationship.subject
        return (
            resource.type == wanted.resource_type
            and wanted.optional_resource_id in ("", resource.id)
            and wanted.optional_relation in ("", resource.relation)
            and (not has_subject or subject.type == of_subject.subject_type)
            and (not has_subject or of_subject.optional_subject_id in ("", subject.id))
            and (not has_relation or subject.relation == of_subject.optional_relation.relation)
        )

    return matches


def _filter_text(wanted: v1.RelationshipFilter) -> str:
    subject = wanted.optional_subject_filter
    whose = f"@{subject.subject_type}:{subject.optional_subject_id}#{subject.optional_relation.relation}"
    resource = f"{wanted.resource_type}:{wanted.optional_resource_id}#{wanted.optional_relation}"
    return resource + (whose if wanted.HasField("optional_subject_filter") else "")
