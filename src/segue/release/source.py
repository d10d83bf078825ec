"""What a release's Python files say, read without running them."""

import ast
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from segue.errors import ReleaseError

_PREVIOUS = "previous"


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One module that a file imports, or may import.

    Attributes:
        module: its full name, such as `previous.blockstore.node`.
        line: where in the file.
        certain: False if it may as well be a name within the module before the last dot.
    """

    module: str
    line: int
    certain: bool


def parse(content: bytes, shown: str) -> ast.Module:
    """Return a Python file's syntax tree.

    Args:
        content: the file's bytes.
        shown: what to call the file in errors.

    Raises:
        ReleaseError: it does not compile: `FILE:LINE` and why.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a warning about the author's code is for the author's own tools
        try:
            tree = ast.parse(content, shown)
            compile(tree, shown, "exec", dont_inherit=True)
        except SyntaxError as error:
            raise ReleaseError(f"{shown}:{error.lineno or 1}: {error.msg}; correct the code") from error
        except (ValueError, RecursionError, MemoryError) as error:
            raise ReleaseError(f"{shown}:1: Python cannot compile it: {error}; correct the code") from error
    return tree


def module_file(module: str, files: Collection[str]) -> str | None:
    """Return the file among `files` that is the module, None if there is none."""
    path = module.replace(".", "/")
    # A package hides a module of the same name, as in Python.
    return next((file for file in (f"{path}/__init__.py", f"{path}.py") if file in files), None)


def is_namespace(module: str, files: Collection[str]) -> bool:
    """Say whether the module is a folder among `files` that has Python below it but no file of its own."""
    prefix = module.replace(".", "/") + "/"
    return module_file(module, files) is None and any(
        file.startswith(prefix) and file.endswith(".py") for file in files
    )


def definition(tree: ast.Module, name: str) -> ast.stmt | None:
    """Return the top-level statement that binds `name`, the last if there are several.

    A `*` import and a module's own `__getattr__` may bind any name, and count if nothing else does.
    """
    found = wild = None
    for statement in _top_level(tree.body):
        names = _bound(statement)
        if name in names:
            found = statement
        elif "*" in names or "__getattr__" in names:
            wild = statement
    return found or wild


def imports(tree: ast.Module, module: str, is_package: bool) -> list[Import]:
    """Return what the module imports anywhere in its code, in the order of its lines.

    Found are `import` statements, and calls of `import_module` and `__import__` with a literal name.

    Args:
        tree: the module's syntax tree.
        module: its full name, which relative imports start from.
        is_package: True if it is an `__init__.py`.
    """
    package = module if is_package else module.rpartition(".")[0]
    found: list[Import] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [Import(module=alias.name, line=node.lineno, certain=True) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += _from(node, package)
        elif isinstance(node, ast.Call):
            found += _called(node, package)
    return sorted(found, key=lambda one: one.line)


def previous_imports(trees: Mapping[str, ast.Module]) -> Iterator[tuple[str, Import]]:
    """Return what a release imports of the release before: `(file, import)`, names without `previous.`.

    Args:
        trees: `{file: its syntax tree}` of the whole release.

    Raises:
        ReleaseError: a file imports `previous` itself, which does not say what of it is needed.
    """
    for file, tree in trees.items():
        module, is_package = name_of(file)
        found = [one for one in imports(tree, module, is_package) if one.module.partition(".")[0] == _PREVIOUS]
        lines_with_name = {one.line for one in found if one.module != _PREVIOUS}
        for one in found:
            if one.module != _PREVIOUS:
                yield file, Import(module=one.module.partition(".")[2], line=one.line, certain=one.certain)
            elif one.line not in lines_with_name:
                raise ReleaseError(
                    f"{file}:{one.line}: imports previous as a whole: say which module of it, as in "
                    f"`from previous.blockstore import blockstore_pb2`"
                )


def name_of(file: str) -> tuple[str, bool]:
    """Return the name of the module that a file is, and whether it is a package."""
    parts = file.removesuffix(".py").split("/")
    if parts[-1] == "__init__":
        return ".".join(parts[:-1]), True
    return ".".join(parts), False


def _from(node: ast.ImportFrom, package: str) -> list[Import]:
    base = node.module or ""
    if node.level:
        above = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*above, *([base] if base else [])])
    if not base:
        return []
    names = [alias.name for alias in node.names if alias.name != "*"]
    return [
        Import(module=base, line=node.lineno, certain=True),
        *(Import(module=f"{base}.{name}", line=node.lineno, certain=False) for name in names),
    ]


def _called(node: ast.Call, package: str) -> list[Import]:
    function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
    if function not in ("import_module", "__import__") or not node.args:
        return []
    name = node.args[0]
    if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
        return []
    module = name.value
    if module.startswith("."):
        level = len(module) - len(module.lstrip("."))
        above = package.split(".")[: len(package.split(".")) - level + 1]
        module = ".".join([*above, module.lstrip(".")])
    return [Import(module=module, line=node.lineno, certain=True)]


def _top_level(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run in the module's own namespace, those within `if`, `try` and so on too."""
    for statement in statements:
        yield statement
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for field in ("body", "orelse", "finalbody"):
            yield from _top_level(getattr(statement, field, []))
        for part in (*getattr(statement, "handlers", []), *getattr(statement, "cases", [])):
            yield from _top_level(part.body)


def _bound(statement: ast.stmt) -> set[str]:
    match statement:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return {statement.name}
        case ast.Import() | ast.ImportFrom():
            return {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
        case ast.AnnAssign(value=None):
            return set()
        case ast.Assign() | ast.AnnAssign() | ast.AugAssign() | ast.For() | ast.With():
            # Nested statements come by themselves; here only what this statement's own expressions store.
            expressions = [part for part in ast.iter_child_nodes(statement) if not isinstance(part, ast.stmt)]
            stored = (node for part in expressions for node in ast.walk(part))
            return {node.id for node in stored if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return set()
