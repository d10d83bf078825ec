"""Schemas, and the text that they are written in."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

#: What the names of types are, and of relations and permissions; both protocols have these rules.
TYPE = re.compile(r"([a-z][a-z0-9_]{1,61}[a-z0-9]/)?[a-z][a-z0-9_]{1,62}[a-z0-9]")
NAME = re.compile(r"[a-z][a-z0-9_]{1,62}[a-z0-9]")

Operator: TypeAlias = Literal["+", "&", "-"]

#: From the one that binds least; they bind so in SpiceDB.
OPERATORS: tuple[Operator, ...] = ("-", "&", "+")


class SchemaError(Exception):
    """A schema that says nothing that could be meant: the message names the place."""


@dataclass(frozen=True, slots=True)
class AllowedSubject:
    """Subjects that a relation may have: objects of a type, with `relation` its sets, with `everyone` the wildcard."""

    type: str
    relation: str = ""
    everyone: bool = False

    def __str__(self) -> str:
        return self.type + (":*" if self.everyone else f"#{self.relation}" if self.relation else "")


@dataclass(frozen=True, slots=True)
class Computed:
    """Those who are in another relation or permission of the same object."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Arrow:
    """Those who have `name` on an object that stands in `relation` to this one."""

    relation: str
    name: str

    def __str__(self) -> str:
        return f"{self.relation}->{self.name}"


@dataclass(frozen=True, slots=True)
class Nobody:
    """Those in the empty set."""

    def __str__(self) -> str:
        return "nil"


@dataclass(frozen=True, slots=True)
class Combined:
    """At least two sets, all with one operator; `-` takes all others from the first."""

    operator: Operator
    parts: tuple["Expression", ...]

    def __str__(self) -> str:
        return f" {self.operator} ".join(
            f"({part})" if isinstance(part, Combined) else str(part) for part in self.parts
        )


Expression: TypeAlias = Computed | Arrow | Nobody | Combined


@dataclass(frozen=True, slots=True)
class Relation:
    """What relationships are written to."""

    name: str
    allowed: tuple[AllowedSubject, ...]

    def __str__(self) -> str:
        return f"relation {self.name}: {' | '.join(map(str, self.allowed))}"


@dataclass(frozen=True, slots=True)
class Permission:
    """What is computed."""

    name: str
    expression: Expression

    def __str__(self) -> str:
        return f"permission {self.name} = {self.expression}"


Member: TypeAlias = Relation | Permission


@dataclass(frozen=True, slots=True)
class Definition:
    """A type of objects."""

    name: str
    members: tuple[Member, ...] = ()

    def member(self, name: str) -> Member | None:
        """Return the relation or permission of that name, if it has one."""
        return next((member for member in self.members if member.name == name), None)

    def __str__(self) -> str:
        lines = "".join(f"\n    {member}" for member in self.members)
        return f"definition {self.name} {{{lines}\n}}" if lines else f"definition {self.name} {{}}"


@dataclass(frozen=True, slots=True)
class Schema:
    """All types. Its text is what `parse` reads it from.

    Raises:
        SchemaError: a name is given twice, or is nobody's.
    """

    definitions: tuple[Definition, ...] = ()

    def __post_init__(self) -> None:
        _refuse_twice([definition.name for definition in self.definitions], "definition")
        for definition in self.definitions:
            _refuse_twice([member.name for member in definition.members], f"name in definition {definition.name}")
            for member in definition.members:
                if isinstance(member, Relation):
                    self._check_relation(definition, member)
                else:
                    self._check_expression(f"permission {definition.name}#{member.name}", definition, member.expression)

    def definition(self, name: str) -> Definition | None:
        """Return the type of that name, if there is one."""
        return next((definition for definition in self.definitions if definition.name == name), None)

    def member(self, type_: str, name: str) -> Member | None:
        """Return the type's relation or permission of that name, if there are both."""
        definition = self.definition(type_)
        return definition.member(name) if definition else None

    def _check_relation(self, definition: Definition, relation: Relation) -> None:
        for allowed in relation.allowed:
            known = self.definition(allowed.type)
            if known is None or (allowed.relation and known.member(allowed.relation) is None):
                raise SchemaError(f"relation {definition.name}#{relation.name}: {allowed} is not defined")

    def _check_expression(self, where: str, definition: Definition, expression: Expression) -> None:
        match expression:
            case Combined(parts=parts):
                for part in parts:
                    self._check_expression(where, definition, part)
            case Computed(name=name):
                if definition.member(name) is None:
                    raise SchemaError(f"{where}: {name} is not defined")
            case Arrow(relation=name):
                relation = definition.member(name)
                if not isinstance(relation, Relation):
                    raise SchemaError(f"{where}: {expression} does not start at a relation")
                if any(allowed.everyone for allowed in relation.allowed):
                    raise SchemaError(f"{where}: {expression} starts at a relation that may have a wildcard")

    def __str__(self) -> str:
        return "\n\n".join(map(str, self.definitions))


def _refuse_twice(names: list[str], what: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise SchemaError(f"{what} {name} is there twice")


_TOKENS = re.compile(
    r"(?P<blank>\s+|//[^\n]*|/\*.*?\*/)|(?P<word>[a-z][a-z0-9_]*)|(?P<sign>->|[{}()/:#|=+&*-])", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    line: int


def _tokens(text: str) -> Iterator[_Token]:
    at, line = 0, 1
    while at < len(text):
        found = _TOKENS.match(text, at)
        if found is None:
            raise SchemaError(f"line {line}: {text[at]!r} has no meaning here")
        if found.lastgroup != "blank":
            yield _Token(found[0], line)
        line += found[0].count("\n")
        at = found.end()
    yield _Token("", line)


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens = list(_tokens(text))
        self.at = 0

    def has(self, text: str) -> bool:
        """Go past `text` if it stands here."""
        here = self.tokens[self.at].text == text
        self.at += here
        return here

    def expect(self, text: str) -> None:
        if not self.has(text):
            raise self.error(repr(text))

    def error(self, wanted: str) -> SchemaError:
        token = self.tokens[self.at]
        return SchemaError(f"line {token.line}: {wanted} is missing before {token.text or 'the end'!r}")

    def name(self) -> str:
        if not NAME.fullmatch(self.tokens[self.at].text):
            raise self.error("a name of 3 to 64 characters (a-z, 0-9, _)")
        self.at += 1
        return self.tokens[self.at - 1].text

    def type(self) -> str:
        name = self.name()
        return f"{name}/{self.name()}" if self.has("/") else name

    def schema(self) -> Schema:
        definitions = []
        while not self.has(""):
            self.expect("definition")
            name = self.type()
            self.expect("{")
            members: list[Member] = []
            while not self.has("}"):
                members.append(self.member())
            definitions.append(Definition(name, tuple(members)))
        return Schema(tuple(definitions))

    def member(self) -> Member:
        if self.has("relation"):
            name = self.name()
            self.expect(":")
            allowed = [self.allowed()]
            while self.has("|"):
                allowed.append(self.allowed())
            return Relation(name, tuple(allowed))
        self.expect("permission")
        name = self.name()
        self.expect("=")
        return Permission(name, self.expression(OPERATORS))

    def allowed(self) -> AllowedSubject:
        name = self.type()
        if self.has(":"):
            self.expect("*")
            return AllowedSubject(name, everyone=True)
        return AllowedSubject(name, self.name() if self.has("#") else "")

    def expression(self, operators: tuple[Operator, ...]) -> Expression:
        if not operators:
            return self.operand()
        parts = [self.expression(operators[1:])]
        while self.has(operators[0]):
            parts.append(self.expression(operators[1:]))
        return Combined(operators[0], tuple(parts)) if len(parts) > 1 else parts[0]

    def operand(self) -> Expression:
        if self.has("("):
            inner = self.expression(OPERATORS)
            self.expect(")")
            return inner
        if self.has("nil"):
            return Nobody()
        name = self.name()
        return Arrow(name, self.name()) if self.has("->") else Computed(name)


def parse(text: str) -> Schema:
    """Return the schema that the text describes.

    Raises:
        SchemaError: it describes none; the message has the line, or the name that is wrong.
    """
    return _Parser(text).schema()
