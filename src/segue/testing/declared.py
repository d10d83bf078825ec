"""A transport that holds the server to its word: every answer must be one that its OpenAPI document declares."""

import json
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import httpx
from fastapi import FastAPI

Schema: TypeAlias = Mapping[str, Any]

#: What JSON Schema calls the types, and what `json.loads` makes of them.
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}


class UndeclaredError(AssertionError):
    """The server gave an answer that its OpenAPI document does not declare."""


class DeclaredTransport(httpx.AsyncBaseTransport):
    """Passes requests to an application in this process, and wants each answer declared.

    Requests to paths that the document does not know must be answered with 404.

    Args:
        app: the application.
        raise_faults: False to see what the application's own faults are answered with.
        document: the application's OpenAPI document, which takes a while to make; None to make it.

    Attributes:
        seen: `{(operation's id, status)}` of all answers so far.
    """

    def __init__(self, app: FastAPI, *, raise_faults: bool = True, document: Schema | None = None) -> None:
        self._document = app.openapi() if document is None else document
        self._inner = httpx.ASGITransport(app, raise_app_exceptions=raise_faults)
        self.seen: set[tuple[str, int]] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        response = await self._inner.handle_async_request(request)
        content = await response.aread()
        where = f"{request.method} {request.url.path} -> {response.status_code}"
        operation = self._operation(request)
        if operation is None:
            if response.status_code not in (404, 405):
                raise UndeclaredError(f"{where}: the document has no such path")
            return response
        self.seen.add((operation["operationId"], response.status_code))
        declared = operation["responses"].get(str(response.status_code))
        if declared is None:
            raise UndeclaredError(f"{where}: declared are {', '.join(operation['responses'])}")
        self._check_content(where, declared.get("content", {}), response, content)
        return response

    def _operation(self, request: httpx.Request) -> Mapping[str, Any] | None:
        for template, operations in self._document["paths"].items():
            if re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]*", re.escape(template)), request.url.path):
                operation: Mapping[str, Any] | None = operations.get(request.method.lower())
                return operation
        return None

    def _check_content(self, where: str, declared: Schema, response: httpx.Response, content: bytes) -> None:
        kind = response.headers.get("content-type", "").partition(";")[0]
        if not declared:
            if content or kind:
                raise UndeclaredError(f"{where}: a body of {kind or 'no type'}, none is declared")
            return
        if kind not in declared:
            raise UndeclaredError(f"{where}: a body of {kind or 'no type'}, declared is {', '.join(declared)}")
        if kind == "application/json":
            self._check(where, declared[kind]["schema"], json.loads(content))

    def _check(self, where: str, schema: Schema, value: Any) -> None:
        if "$ref" in schema:
            schema = self._document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        if "anyOf" in schema:
            self._check_any(where, schema["anyOf"], value)
            return
        if value not in schema.get("enum", [schema.get("const", value)]):
            raise UndeclaredError(f"{where}: {value!r} is none of {schema.get('enum', [schema.get('const')])}")
        kind = schema.get("type")
        if kind is not None and (not isinstance(value, _TYPES[kind]) or (kind != "boolean" and value is True)):
            raise UndeclaredError(f"{where}: {value!r} is no {kind}")
        if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
            raise UndeclaredError(f"{where}: {value!r} does not match {schema['pattern']}")
        if isinstance(value, dict):
            self._check_object(where, schema, value)
        if isinstance(value, list):
            parts = schema.get("prefixItems", [schema.get("items", {})] * len(value))
            for index, (part, item) in enumerate(zip(parts, value, strict=True)):
                self._check(f"{where}[{index}]", part, item)

    def _check_any(self, where: str, schemas: list[Schema], value: Any) -> None:
        for schema in schemas:
            try:
                self._check(where, schema, value)
            except UndeclaredError:
                continue
            return
        raise UndeclaredError(f"{where}: {value!r} is none of the {len(schemas)} kinds declared")

    def _check_object(self, where: str, schema: Schema, value: Mapping[str, Any]) -> None:
        fields = schema.get("properties", {})
        missing = sorted(set(schema.get("required", [])) - set(value))
        if missing:
            raise UndeclaredError(f"{where}: {', '.join(missing)} missing")
        for name, item in value.items():
            rest = schema.get("additionalProperties", True)
            if name not in fields and rest is False:
                raise UndeclaredError(f"{where}: {name} is not declared")
            self._check(f"{where}.{name}", fields.get(name, rest if isinstance(rest, dict) else {}), item)
