"""A schema and its text say the same, and so do a definition and its config, where both can say it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from permissions.configs import to_config, to_definition
from permissions.schema import (
    OPERATORS,
    AllowedSubject,
    Arrow,
    Combined,
    Computed,
    Definition,
    Expression,
    Nobody,
    Permission,
    Relation,
    Schema,
    SchemaError,
    parse,
)
from permissions.stubs import namespace_pb2 as v0

import segue

USER, GROUP = Definition("user"), Definition("team/group", (Relation("member", (AllowedSubject("user"),)),))
ALLOWED = [AllowedSubject("user"), AllowedSubject("user", everyone=True), AllowedSubject("team/group", "member")]
OPERANDS: list[Expression] = [Computed("owner"), Computed("reader"), Arrow("parent", "view")]


def combined(parts: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    return st.builds(Combined, st.sampled_from(OPERATORS), st.lists(parts, min_size=2, max_size=3).map(tuple))


def schemas(operands: list[Expression]) -> st.SearchStrategy[Schema]:
    expressions: st.SearchStrategy[Expression] = st.recursive(st.sampled_from(operands), combined, max_leaves=8)
    allowed = st.lists(st.sampled_from(ALLOWED), min_size=1, max_size=3, unique=True).map(tuple)

    def schema(owner: tuple[AllowedSubject, ...], reader: tuple[AllowedSubject, ...], view: Expression) -> Schema:
        parent = Relation("parent", (AllowedSubject("document"),))
        members = (Relation("owner", owner), Relation("reader", reader), parent, Permission("view", view))
        return Schema((USER, GROUP, Definition("document", members)))

    return st.builds(schema, allowed, allowed, expressions)


@given(schema=schemas([*OPERANDS, Nobody()]))
def test_a_schema_is_what_its_text_says(schema: Schema) -> None:
    assert parse(str(schema)) == schema


@given(schema=schemas(OPERANDS))
def test_a_config_is_what_the_definition_says(schema: Schema) -> None:
    """There and back by the wire, nothing is lost."""
    for definition in schema.definitions:
        config = v0.NamespaceDefinition.FromString(to_config(definition).SerializeToString())
        assert to_definition(config) == definition


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("owner + reader & owner", "(owner + reader) & owner"),
        ("owner - reader & owner", "owner - (reader & owner)"),
        ("owner - reader + owner", "owner - (reader + owner)"),
        ("(owner)", "owner"),
    ],
)
def test_how_operators_bind(text: str, same: str) -> None:
    def schema(view: str) -> Schema:
        document = "relation owner: user // one\n relation reader: user /* all\nothers */"
        return parse(f"definition user {{}} definition document {{ {document} permission view = {view} }}")

    assert schema(text) == schema(same)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("definition user {", "line 1: 'permission' is missing before 'the end'"),
        ("definition user {}\ndefinition a {}", "line 2: a name of 3 to 64 characters"),
        ("\n%", "line 2: '%' has no meaning here"),
        ("definition user {} definition user {}", "definition user is there twice"),
        ("definition user { relation one: user relation one: user }", "name in definition user one is there twice"),
        ("definition user { relation friend: usr }", "user#friend: usr is not defined"),
        ("definition user { relation friend: user#pal }", "user#friend: user#pal is not defined"),
        ("definition user { permission all = some }", "user#all: some is not defined"),
        ("definition user { permission all = nil permission two = all->all }", "all->all does not start at a relation"),
        (
            "definition user { relation any: user:* permission all = any->all }",
            "any->all starts at a relation that may",
        ),
        ("definition user { permission all = (nil }", "line 1: ')' is missing before '}'"),
        ("definition user { permission all = nil + }", "is missing before '}'"),
    ],
)
def test_what_is_no_schema(text: str, fault: str) -> None:
    with pytest.raises(SchemaError) as raised:
        parse(text)
    assert fault in str(raised.value)


def computed(relation: str, number: int = v0.ComputedUserset.TUPLE_OBJECT) -> v0.ComputedUserset:
    return v0.ComputedUserset(relation=relation, object=number)


def relation(*children: v0.SetOperation.Child, **fields: object) -> v0.NamespaceDefinition:
    rewrite = v0.UsersetRewrite(union=v0.SetOperation(child=children)) if children else None
    return v0.NamespaceDefinition(
        name="document", relation=[v0.Relation(name="view", userset_rewrite=rewrite, **fields)]
    )


THIS = v0.SetOperation.Child(_this=v0.SetOperation.Child.This())
OWNER = v0.SetOperation.Child(computed_userset=computed("owner"))
TYPES = v0.TypeInformation(allowed_direct_relations=[v0.AllowedRelation(namespace="user", relation="...")])
UNSAYABLE = {
    "both written to and computed": relation(THIS, OWNER),
    "says no types of subjects": relation(THIS),
    "a permission it has no types": relation(OWNER, type_information=TYPES),
    "computed from nothing": v0.NamespaceDefinition(
        name="document", relation=[v0.Relation(name="view", userset_rewrite=v0.UsersetRewrite())]
    ),
    "an object that a schema cannot name": relation(
        v0.SetOperation.Child(computed_userset=computed("owner", v0.ComputedUserset.TUPLE_USERSET_OBJECT))
    ),
    "say which relation of user": relation(
        type_information=v0.TypeInformation(allowed_direct_relations=[v0.AllowedRelation(namespace="user")])
    ),
    "no place for metadata": relation(metadata=v0.Metadata()),
    "namespace document: a schema has no place": v0.NamespaceDefinition(name="document", metadata=v0.Metadata()),
}


@pytest.mark.parametrize("why", UNSAYABLE)
def test_what_a_schema_cannot_say(why: str) -> None:
    with pytest.raises(segue.Disallowed, match=why):
        to_definition(UNSAYABLE[why])


def test_what_a_config_cannot_say() -> None:
    (definition,) = parse("definition document { permission view = nil }").definitions
    with pytest.raises(segue.Disallowed, match="document#view has nil"):
        to_config(definition)


def test_a_relation_that_is_only_written_to() -> None:
    """`_this` alone is what a relation without a rewrite is."""
    assert to_definition(relation(THIS, type_information=TYPES)) == to_definition(relation(type_information=TYPES))
