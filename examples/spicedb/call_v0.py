"""Calls permissions with the official code of v0, and looks at the same with v1's official client.

Neither knows of the other version, of Segue or of labels.

    python examples/spicedb/call_v0.py --target 127.0.0.1:9000
"""

import argparse
import sys

import grpc
from grpcutil import insecure_bearer_token_credentials
from permissions.stubs import acl_service_pb2 as acl
from permissions.stubs import acl_service_pb2_grpc as acl_services
from permissions.stubs import core_pb2 as core
from permissions.stubs import namespace_pb2 as namespaces
from permissions.stubs import namespace_service_pb2 as configs
from permissions.stubs import namespace_service_pb2_grpc as config_services
from permissions.stubs import v1

CREDENTIALS = insecure_bearer_token_credentials("a token, which this server does not ask for")


def userset(text: str) -> core.ObjectAndRelation:
    """Return what is written as `document:plan#reader`, or `user:ann#...`."""
    namespace, _, rest = text.partition(":")
    object_id, _, relation = rest.partition("#")
    return core.ObjectAndRelation(namespace=namespace, object_id=object_id, relation=relation)


def config() -> namespaces.NamespaceDefinition:
    """Return a document's config: whoever writes it may view it, and so may its readers."""
    users = namespaces.TypeInformation(
        allowed_direct_relations=[namespaces.AllowedRelation(namespace="user", relation="...")]
    )
    parts = [
        namespaces.SetOperation.Child(computed_userset=namespaces.ComputedUserset(relation=name))
        for name in ("reader", "writer")
    ]
    view = namespaces.UsersetRewrite(union=namespaces.SetOperation(child=parts))
    return namespaces.NamespaceDefinition(
        name="document",
        relation=[
            namespaces.Relation(name="reader", type_information=users),
            namespaces.Relation(name="writer", type_information=users),
            namespaces.Relation(name="view", userset_rewrite=view),
        ],
    )


def call_v0(channel: grpc.Channel) -> None:
    """Write configs and tuples, then ask who may view what."""
    user = namespaces.NamespaceDefinition(name="user")
    config_services.NamespaceServiceStub(channel).WriteConfig(configs.WriteConfigRequest(configs=[user, config()]))
    permissions = acl_services.ACLServiceStub(channel)
    written = permissions.Write(
        acl.WriteRequest(
            updates=[
                core.RelationTupleUpdate(
                    operation=core.RelationTupleUpdate.TOUCH,
                    tuple=core.RelationTuple(
                        object_and_relation=userset(document), user=core.User(userset=userset("user:ann#..."))
                    ),
                )
                for document in ("document:plan#writer", "document:minutes#reader")
            ]
        )
    )
    print(f"v0 Write: zookie {written.revision.token}")
    for who in ("user:ann#...", "user:bob#..."):
        question = acl.CheckRequest(test_userset=userset("document:plan#view"), user=core.User(userset=userset(who)))
        print(f"v0 Check: {who} may view document:plan: {permissions.Check(question).is_member}")
    documents = core.RelationReference(namespace="document", relation="view")
    found = permissions.Lookup(acl.LookupRequest(object_relation=documents, user=userset("user:ann#...")))
    print(f"v0 Lookup: user:ann#... may view {', '.join(found.resolved_object_ids)}")


def call_v1(target: str) -> None:
    """Read the schema that v0's configs became, and ask in v1 what was asked in v0."""
    client = v1.Client(target, CREDENTIALS)
    print(f"v1 ReadSchema:\n{client.ReadSchema(v1.ReadSchemaRequest()).schema_text}")
    ann = v1.SubjectReference(object=v1.ObjectReference(object_type="user", object_id="ann"))
    question = v1.LookupResourcesRequest(resource_object_type="document", permission="view", subject=ann)
    for reply in client.LookupResources(question):
        print(f"v1 LookupResources: {reply.resource_object_id} at ZedToken {reply.looked_up_at.token}")


def call_what_is_disallowed(channel: grpc.Channel) -> None:
    """Ask for what v1 has no meaning for."""
    question = acl.ExpandRequest(userset=userset("document:plan#..."))
    try:
        acl_services.ACLServiceStub(channel).Expand(question)
    except grpc.RpcError as error:
        print(f"v0 Expand: {error.code().name}: {error.details()}")


def call(target: str) -> None:
    """Do all of it, in this order."""
    with grpc.secure_channel(target, CREDENTIALS) as channel:
        call_v0(channel)
        call_v1(target)
        call_what_is_disallowed(channel)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Call permissions with the official clients of v0 and v1.")
    parser.add_argument("--target", default="127.0.0.1:9000", help="where it is served, 127.0.0.1:9000 if not given")
    target = parser.parse_args().target
    try:
        call(target)
    except grpc.RpcError as error:
        sys.exit(f"{target} answers {error.code().name}: {error.details()}")
