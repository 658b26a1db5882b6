"""The classes of configs without the modules in which they stand.

A config lies beside what it configures, whose module imports torch: too slow for ``--help``. Here a
module's source is parsed, and of its statements one is run when its name is asked for, after those
whose names it uses: a config class without its methods, the types and defaults of its fields, and
nothing else. The fields are those of the real class; nothing is checked.
"""

import ast
import dataclasses
import functools
import importlib
import sys
from pathlib import Path
from typing import Any, cast

_PACKAGE = Path(__file__).parents[1]
_REAL = "speechssl.config"
"""Modules that need nothing are imported: what reads the classes compares bounds by their class."""


def load(module: str, name: str) -> Any:
    """A class or function at the top level of a module of the package, by its source alone.

    Raises KeyError where the module has no such name.
    """
    names = _names(module)
    if name not in names:
        node = _definitions(module)[name]
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names[name] = _imported(node, name)
        else:
            names_in = (each for each in ast.walk(node) if isinstance(each, ast.Name))
            used = {each.id for each in names_in if isinstance(each.ctx, ast.Load)}
            for other in used & _definitions(module).keys() - {name}:
                load(module, other)
            exec(compile(ast.Module([node], []), module, "exec"), names)
    return names[name]


def field_docs(cls: Any) -> dict[str, str]:
    """The string below each field of a class, in one line, inherited ones too; a field without one
    is not there."""
    found: dict[str, str] = {}
    for each in reversed(cls.__mro__):
        found |= _own_docs(each) if dataclasses.is_dataclass(each) else {}
    return found


def _own_docs(cls: Any) -> dict[str, str]:
    node = _definitions(cls.__module__)[cls.__qualname__]
    assert isinstance(node, ast.ClassDef)
    return {
        field.target.id: " ".join(str(below.value.value).split())
        for field, below in zip(node.body, node.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
    }


class _Names:
    """A module of which a name is loaded when it is used: ``model_config.tiny``."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return load(self._module, name)


@functools.cache
def _names(module: str) -> dict[str, Any]:
    """What has been loaded of a module."""
    return {"__name__": module}


def _path(module: str) -> Path:
    """The file of a module of the package, which may not exist, or of one that is imported."""
    if module.split(".")[0] != _PACKAGE.name:
        return Path(str(sys.modules[module].__file__))
    place = _PACKAGE.joinpath(*module.split(".")[1:])
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


@functools.cache
def _definitions(module: str) -> dict[str, ast.stmt]:
    """The statement that defines each name at the top level of a module."""
    tree = ast.parse(_path(module).read_text(encoding="utf-8"))
    found: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            node.body = [each for each in node.body if not isinstance(each, ast.FunctionDef)]
            found[node.name] = node
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
            for arg in ast.walk(node.args):
                if isinstance(arg, ast.arg):
                    arg.annotation = None
            found[node.name] = node
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {(alias.asname or alias.name).split(".")[0]: node for alias in node.names}
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [each for target in targets for each in ast.walk(target)]
            found |= {each.id: node for each in names if isinstance(each, ast.Name)}
    return found


def _imported(node: ast.Import | ast.ImportFrom, name: str) -> Any:
    """What an import statement gives for a name."""
    alias = next(a for a in node.names if (a.asname or a.name).split(".")[0] == name)
    if isinstance(node, ast.Import):
        return importlib.import_module(alias.name if alias.asname else alias.name.split(".")[0])
    source = cast(str, node.module)  # the package has no relative imports
    if source.split(".")[0] != "speechssl" or source.startswith(_REAL):
        return getattr(importlib.import_module(source), alias.name)
    if _path(f"{source}.{alias.name}").exists():
        return _Names(f"{source}.{alias.name}")
    return load(source, alias.name)
