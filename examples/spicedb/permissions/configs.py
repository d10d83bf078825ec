"""Version 1's namespace configs and version 2's definitions, each as the other."""

from collections.abc import Sequence

import segue

from .schema import (
    AllowedSubject,
    Arrow,
    Combined,
    Computed,
    Definition,
    Expression,
    Member,
    Nobody,
    Operator,
    Permission,
    Relation,
)
from .stubs import namespace_pb2 as v0

#: What v0 calls an object itself, where another relation's name could stand; v1 has no name there.
ITSELF = "..."

_OPERATORS: dict[str, Operator] = {"union": "+", "intersection": "&", "exclusion": "-"}
_OPERATOR_FIELDS = {operator: field for field, operator in _OPERATORS.items()}


def to_definition(config: v0.NamespaceDefinition) -> Definition:
    """Return the config as a definition.

    Raises:
        segue.Disallowed: a schema's text cannot say it; the message names the relation.
    """
    if config.HasField("metadata"):
        raise segue.Disallowed(f"namespace {config.name}: a schema has no place for metadata")
    return Definition(config.name, tuple(_member(f"{config.name}#{each.name}", each) for each in config.relation))


def to_config(definition: Definition) -> v0.NamespaceDefinition:
    """Return the definition as a config.

    Raises:
        segue.Disallowed: a config cannot say it; the message names the permission.
    """
    relations = []
    for member in definition.members:
        if isinstance(member, Relation):
            allowed = [_allowed_relation(each) for each in member.allowed]
            types = v0.TypeInformation(allowed_direct_relations=allowed)
            relations.append(v0.Relation(name=member.name, type_information=types))
        else:
            rewrite = _rewrite(f"{definition.name}#{member.name}", member.expression)
            relations.append(v0.Relation(name=member.name, userset_rewrite=rewrite))
    return v0.NamespaceDefinition(name=definition.name, relation=relations)


def _member(where: str, relation: v0.Relation) -> Member:
    if relation.HasField("metadata"):
        raise segue.Disallowed(f"relation {where}: a schema has no place for metadata")
    allowed = relation.type_information.allowed_direct_relations
    if not relation.HasField("userset_rewrite") or _is_only_this(relation.userset_rewrite):
        if not allowed:
            raise segue.Disallowed(f"relation {where} says no types of subjects, which a schema must: list them")
        return Relation(relation.name, tuple(_allowed_subject(where, each) for each in allowed))
    expression = _expression(where, relation.userset_rewrite)
    if allowed:
        raise segue.Disallowed(f"relation {where} is computed: as a permission it has no types of subjects")
    return Permission(relation.name, expression)


def _is_only_this(rewrite: v0.UsersetRewrite) -> bool:
    which = rewrite.WhichOneof("rewrite_operation")
    children: Sequence[v0.SetOperation.Child] = getattr(rewrite, which).child if which else ()
    return len(children) == 1 and children[0].HasField("_this")


def _allowed_subject(where: str, allowed: v0.AllowedRelation) -> AllowedSubject:
    match allowed.WhichOneof("relation_or_wildcard"):
        case "public_wildcard":
            return AllowedSubject(allowed.namespace, everyone=True)
        case "relation":
            return AllowedSubject(allowed.namespace, "" if allowed.relation == ITSELF else allowed.relation)
        case _:
            raise segue.Disallowed(f"relation {where}: say which relation of {allowed.namespace} it takes, or {ITSELF}")


def _allowed_relation(allowed: AllowedSubject) -> v0.AllowedRelation:
    if allowed.everyone:
        return v0.AllowedRelation(namespace=allowed.type, public_wildcard=v0.AllowedRelation.PublicWildcard())
    return v0.AllowedRelation(namespace=allowed.type, relation=allowed.relation or ITSELF)


def _expression(where: str, rewrite: v0.UsersetRewrite) -> Expression:
    which = rewrite.WhichOneof("rewrite_operation")
    children: Sequence[v0.SetOperation.Child] = getattr(rewrite, which).child if which else ()
    parts = tuple(_part(where, child) for child in children)
    if which is None or not parts:
        raise segue.Disallowed(f"relation {where} is computed from nothing")
    return Combined(_OPERATORS[which], parts) if len(parts) > 1 else parts[0]


def _part(where: str, child: v0.SetOperation.Child) -> Expression:
    match child.WhichOneof("child_type"):
        case "computed_userset" if child.computed_userset.object == v0.ComputedUserset.TUPLE_OBJECT:
            return Computed(child.computed_userset.relation)
        case "tuple_to_userset":
            computed = child.tuple_to_userset.computed_userset
            if computed.object == v0.ComputedUserset.TUPLE_USERSET_OBJECT:
                return Arrow(child.tuple_to_userset.tupleset.relation, computed.relation)
        case "userset_rewrite":
            return _expression(where, child.userset_rewrite)
        case "_this":
            raise segue.Disallowed(
                f"relation {where} is both written to and computed: a schema has relations for the one and permissions"
                " for the other; make two of it"
            )
    raise segue.Disallowed(f"relation {where} is computed from an object that a schema cannot name")


def _rewrite(where: str, expression: Expression) -> v0.UsersetRewrite:
    match expression:
        case Combined(operator=operator, parts=parts):
            operation = v0.SetOperation(child=[_child(where, part) for part in parts])
            return v0.UsersetRewrite(**{_OPERATOR_FIELDS[operator]: operation})
        case _:
            return v0.UsersetRewrite(union=v0.SetOperation(child=[_child(where, expression)]))


def _child(where: str, expression: Expression) -> v0.SetOperation.Child:
    match expression:
        case Computed(name=name):
            return v0.SetOperation.Child(computed_userset=v0.ComputedUserset(relation=name))
        case Arrow(relation=relation, name=name):
            end = v0.ComputedUserset(object=v0.ComputedUserset.TUPLE_USERSET_OBJECT, relation=name)
            start = v0.TupleToUserset.Tupleset(relation=relation)
            return v0.SetOperation.Child(tuple_to_userset=v0.TupleToUserset(tupleset=start, computed_userset=end))
        case Nobody():
            raise segue.Disallowed(f"permission {where} has nil in it, which a config cannot say")
        case Combined():
            return v0.SetOperation.Child(userset_rewrite=_rewrite(where, expression))
