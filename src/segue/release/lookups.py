"""What a release's code finds by a name in a string: the metadata of libraries, their data files, whether one is there.

Python's functions for these take names of modules and of distributions, and know those outside releases. A library
names itself as its author does (`files("certifi")`, `version("rich")`), so a release sees functions that look
among what it ships and requires first.
"""

import functools
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata, resources
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

#: Functions of `importlib.resources` whose first argument is a package, by name or itself.
_OF_A_PACKAGE = ("contents", "is_resource", "open_binary", "open_text", "path", "read_binary", "read_text")


def stand_ins(
    places: Sequence[Path],
    package: str,
    name_of: Callable[[str], str],
    import_module: Callable[[str], ModuleType],
) -> dict[str, Mapping[str, Any]]:
    """Return what a release sees in place of Python's own: `{module: {attribute: value}}`.

    Args:
        places: where the release's modules and libraries are, in the order of search.
        package: the package that its modules are under; a library may ask by its `__name__`.
        name_of: returns the name in `sys.modules` of what the release's code calls so.
        import_module: imports what the release's code calls so.
    """
    return {
        "importlib.metadata": _metadata([str(place) for place in places], package, import_module),
        "importlib.resources": _resources(name_of),
        "importlib.util": {"find_spec": _find_spec(name_of)},
        "pkgutil": {"get_data": lambda package, resource: pkgutil.get_data(name_of(package), resource)},
    }


def _metadata(
    paths: Sequence[str], package: str, import_module: Callable[[str], ModuleType]
) -> dict[str, Callable[..., Any]]:
    """Return the functions of `importlib.metadata` that see the release's libraries, then all others."""

    def distribution(name: str) -> metadata.Distribution:
        plain = name.removeprefix(f"{package}.")
        shipped = metadata.distributions(name=plain, path=list(paths)) if plain else ()
        return next(iter(shipped), None) or metadata.distribution(plain)

    def distributions(**context: Any) -> Iterator[metadata.Distribution]:
        if "path" not in context:
            yield from metadata.distributions(**context, path=list(paths))
        yield from metadata.distributions(**context)

    def entry_points(**chosen: Any) -> metadata.EntryPoints:
        own = list(metadata.distributions(path=list(paths)))
        names = {one.metadata["Name"] for one in own}
        others = [one for one in metadata.distributions() if one.metadata["Name"] not in names]
        found: list[metadata.EntryPoint] = []
        for one in own:
            found += [_EntryPoint.of(point, one, import_module) for point in one.entry_points]
        found += [point for one in others for point in one.entry_points]
        return metadata.EntryPoints(found).select(**chosen)

    return {
        "distribution": distribution,
        "distributions": distributions,
        "entry_points": entry_points,
        "files": lambda name: distribution(name).files,
        "metadata": lambda name: distribution(name).metadata,
        "requires": lambda name: distribution(name).requires,
        "version": lambda name: distribution(name).version,
    }


class _EntryPoint(metadata.EntryPoint):
    """An entry point of a release's library, which loads from the release."""

    @classmethod
    def of(
        cls, point: metadata.EntryPoint, distribution: metadata.Distribution, import_module: Callable[[str], ModuleType]
    ) -> "_EntryPoint":
        own = cls(point.name, point.value, point.group)
        vars(own).update(dist=distribution, import_module=import_module)  # it refuses to be changed otherwise
        return own

    def load(self) -> Any:
        attributes = filter(None, self.attr.split("."))
        return functools.reduce(getattr, attributes, vars(self)["import_module"](self.module))


def _resources(name_of: Callable[[str], str]) -> dict[str, Callable[..., Any]]:
    def named(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(package: Any, *arguments: Any, **options: Any) -> Any:
            return function(name_of(package) if isinstance(package, str) else package, *arguments, **options)

        return call

    def files(*anchor: Any, **options: Any) -> Any:
        if not anchor and not options:  # the caller's own package, from Python 3.12 on
            anchor = (sys._getframe(1).f_globals["__package__"],)
        options = {name: name_of(value) if isinstance(value, str) else value for name, value in options.items()}
        return resources.files(*(name_of(one) if isinstance(one, str) else one for one in anchor), **options)

    present = [name for name in _OF_A_PACKAGE if hasattr(resources, name)]
    return {"files": files, **{name: named(getattr(resources, name)) for name in present}}


def _find_spec(name_of: Callable[[str], str]) -> Callable[..., ModuleSpec | None]:
    def find_spec(name: str, package: str | None = None) -> ModuleSpec | None:
        return importlib.util.find_spec(name_of(importlib.util.resolve_name(name, package)))

    return find_spec
