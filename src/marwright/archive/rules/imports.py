"""What a module imports, read from its syntax tree, and how sure it is that each import runs."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from marwright.project import PACKAGE

# How an import that finds nothing ends: the module sees to it, or may fail, or fails.
HANDLED, MAYBE, CERTAIN = 0, 1, 2

# Blocks that let every exception through; another one may swallow it.
_LETS_THROUGH = frozenset({"open", "catch_warnings", "no_grad", "inference_mode"})
_MACHINE = frozenset({"sys.version_info", "sys.platform", "os.name", "sys.implementation.name"})
_STARTS = frozenset({"run", "call", "check_call", "check_output", "Popen", "system", "main"})
# Of `sys`: where modules are found.
_PATHS = ("path", "meta_path", "path_hooks")
# Calls that add a folder to the path, or a module from a file to those that were imported.
_ADDS = frozenset({"addsitedir", "load_module", "load_source", "load_dynamic"})
# Our own package, of which more is offered than its modules.
_OWN = PACKAGE.rstrip("/")
_ENDS = frozenset({"exit", "_exit", "quit"})
_UNSURE = (ast.Lambda, ast.IfExp, ast.BoolOp, ast.ListComp, ast.SetComp, ast.DictComp,
           ast.GeneratorExp)  # fmt: skip
_Function = (ast.FunctionDef, ast.AsyncFunctionDef)


class Import(NamedTuple):
    """One import as written: `names` are those behind `from … import`.

    `certainty` says how a missing module ends. `when` holds `[first, stop, one_missing]`: whether
    one of the module's imports from `first` to before `stop` must be missing for this one to run,
    or none. `by_name`: it is a call, as of `import_module`.
    """

    level: int
    module: str
    names: list[str]
    line: int
    certainty: int
    when: list[Any]
    by_name: bool = False


@dataclass(slots=True, kw_only=True)
class Found:
    """The imports of a module in their order, and what keeps them from being all that there is.

    `moves` is the first line that changes where modules are found, or installs some, 0 for none;
    `unnamed` are lines that import a module whose name is made at run time.
    """

    imports: list[Import] = field(default_factory=list)
    moves: int = 0
    unnamed: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Where:
    """What is known of a place in a module: whether it is reached, and under which conditions."""

    certainty: int = CERTAIN
    when: tuple[Any, ...] = ()

    def at_most(self, certainty: int) -> _Where:
        return _Where(min(self.certainty, certainty), self.when)

    def given(self, places: range, *, one_missing: bool) -> _Where:
        return _Where(self.certainty, (*self.when, [places.start, places.stop, one_missing]))


def find_imports(tree: ast.Module) -> Found:
    """Return what a module imports, in functions and by `import_module("name")` as well.

    Imports that only type checkers see do not count. Raises `RecursionError` for a tree that is
    too deep to be followed.
    """
    walk = _Walk(tree)
    walk.body(tree.body, _Where())
    return walk.found


class _Walk:
    def __init__(self, tree: ast.Module) -> None:
        self.found = Found()
        nodes = [*ast.walk(tree)]
        aliases = [a for node in nodes if isinstance(node, ast.Import) for a in node.names]
        self._used: dict[str, list[str]] = {}
        if any(a.name == _OWN for a in aliases):
            for node in nodes:
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    self._used.setdefault(node.value.id, []).append(node.attr)
        self._sys = {a.asname or a.name for a in aliases if a.name == "sys"}
        self._importers = {"import_module", "__import__"} | {
            a.asname
            for node in nodes
            if isinstance(node, ast.ImportFrom)
            for a in node.names
            if a.name == "import_module" and a.asname
        }
        for node in nodes:
            if self._moves(node) and not self.found.moves:
                self.found.moves = getattr(node, "lineno", 1)

    def _moves(self, node: ast.AST) -> bool:
        """Whether a node changes where modules are found, or starts something that installs."""
        if isinstance(node, ast.Attribute) and node.attr in _PATHS:
            return isinstance(node.value, ast.Name) and node.value.id in self._sys
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            return _last_name(node.value) == "modules"
        if isinstance(node, ast.ImportFrom) and node.module == "sys":
            return any(a.name in _PATHS for a in node.names)
        if isinstance(node, ast.Import):
            return any(a.name == "pip" or a.name.startswith("pip.") for a in node.names)
        if isinstance(node, ast.Name):
            return node.id == "__path__"
        if not isinstance(node, ast.Call):
            return False
        name = _last_name(node.func)
        if name == "getattr" and len(node.args) > 1 and _last_name(node.args[0]) in self._sys:
            return getattr(node.args[1], "value", "path") in _PATHS
        if name in ("setdefault", "update"):
            owner = node.func.value if isinstance(node.func, ast.Attribute) else node
            return _last_name(owner) == "modules"
        return name in _ADDS or (name in _STARTS and _names_pip(node))

    def body(self, statements: Iterable[ast.stmt], where: _Where) -> None:
        for statement in statements:
            self.statement(statement, where)

    def statement(self, node: ast.stmt, where: _Where) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                # What is used of our package is as good as imported by its name.
                used = self._used.get(alias.asname or alias.name, []) if alias.name == _OWN else []
                self._add(0, alias.name, used, node.lineno, where)
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
            self._add(node.level, node.module or "", names, node.lineno, where)
        elif isinstance(node, ast.If):
            self._if(node, where)
        elif isinstance(node, (ast.Try, ast.TryStar)):
            self._try(node, where)
        elif isinstance(node, (ast.With, ast.AsyncWith)):
            self._expressions(node.items, where)
            self.body(node.body, _within(node.items, where))
        elif isinstance(node, _Function):
            arguments = [*node.args.defaults, *node.args.kw_defaults]
            self._expressions([*node.decorator_list, *filter(None, arguments)], where)
            # Nobody knows from here who calls it, and what is caught there.
            self.body(node.body, _Where(MAYBE))
        elif isinstance(node, ast.ClassDef):
            self._expressions([*node.decorator_list, *node.bases, *node.keywords], where)
            self.body(node.body, where)
        else:
            # Loops and `match`: what is in their bodies may run.
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.stmt):
                    self.statement(child, where.at_most(MAYBE))
                elif isinstance(child, ast.match_case):
                    self.body(child.body, where.at_most(MAYBE))
                else:
                    self._expressions([child], where)

    def _if(self, node: ast.If, where: _Where) -> None:
        self._expressions([node.test], where)
        test, negated = node.test, False
        while isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            test, negated = test.operand, not negated
        if _last_name(test) == "TYPE_CHECKING":
            self.body(node.body if negated else node.orelse, where)
            return
        if isinstance(test, ast.Constant):
            runs = bool(test.value) is not negated
        elif (is_main := _is_main(test)) is not None:
            # A server imports it.
            runs = is_main is negated
        else:
            both = where.at_most(HANDLED if _asks_for_module_or_machine(test) else MAYBE)
            self.body(node.body, both)
            self.body(node.orelse, both)
            return
        self.body(node.body, where if runs else where.at_most(HANDLED))
        self.body(node.orelse, where.at_most(HANDLED) if runs else where)

    def _try(self, node: ast.Try | ast.TryStar, where: _Where) -> None:
        catcher = next((handler for handler in node.handlers if _catches(handler)), None)
        caught = catcher is not None and not _gives_up(catcher)
        unknown = any(_catches(handler) is None for handler in node.handlers)
        inner = where.at_most(HANDLED if caught else MAYBE if unknown else where.certainty)
        first = len(self.found.imports)
        for statement in node.body:
            self.statement(statement, inner)
            if node.handlers and not isinstance(statement, (ast.Import, ast.ImportFrom)):
                # It may raise, and then the rest does not run.
                inner = inner.at_most(MAYBE)
        places = range(first, len(self.found.imports))
        imports_only = all(isinstance(s, (ast.Import, ast.ImportFrom)) for s in node.body)
        for handler in node.handlers:
            if handler is catcher and caught and places:
                self.body(handler.body, where.given(places, one_missing=True))
            else:
                self.body(handler.body, where.at_most(MAYBE))
        if imports_only and places:
            self.body(node.orelse, where.given(places, one_missing=False))
        else:
            self.body(node.orelse, where.at_most(MAYBE if node.handlers else where.certainty))
        self.body(node.finalbody, where)

    def _expressions(self, nodes: Iterable[ast.AST], where: _Where) -> None:
        for node in nodes:
            if isinstance(node, ast.Call):
                self._call(node, where)
            inner = where.at_most(MAYBE) if isinstance(node, _UNSURE) else where
            self._expressions(ast.iter_child_nodes(node), inner)

    def _call(self, node: ast.Call, where: _Where) -> None:
        if _last_name(node.func) not in self._importers:
            return
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        named = [keywords[key] for key in ("name", "package") if key in keywords]
        arguments = [*node.args, *named]
        name = arguments[0] if arguments else None
        if not (isinstance(name, ast.Constant) and isinstance(name.value, str)):
            self.found.unnamed.append(node.lineno)
            return
        module = name.value.lstrip(".")
        level = len(name.value) - len(module)
        package = arguments[1] if level and len(arguments) > 1 else None
        if level == 1 and isinstance(package, ast.Constant) and isinstance(package.value, str):
            level, module = 0, f"{package.value}.{module}"
        if level and _last_name(package) != "__package__":
            self.found.unnamed.append(node.lineno)
        else:
            self._add(level, module, [], node.lineno, where, by_name=True)

    def _add(
        self,
        level: int,
        module: str,
        names: list[str],
        line: int,
        where: _Where,
        *,
        by_name: bool = False,
    ) -> None:
        found = Import(level, module, names, line, where.certainty, [*where.when], by_name)
        self.found.imports.append(found)


def _catches(handler: ast.ExceptHandler) -> bool | None:
    """Whether an import that fails is caught; None for an exception that is not Python's own."""
    if handler.type is None:
        return True
    types = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return _are_import_errors(types)


def _are_import_errors(types: Iterable[ast.expr]) -> bool | None:
    kinds = [getattr(builtins, _last_name(kind) or "", None) for kind in types]
    known = [kind for kind in kinds if isinstance(kind, type)]
    if any(issubclass(ModuleNotFoundError, kind) for kind in known):
        return True
    return False if len(known) == len(kinds) else None


def _gives_up(handler: ast.ExceptHandler) -> bool:
    """Whether a handler ends what it was called in, however it goes."""
    return any(
        isinstance(node, ast.Raise)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
            and _last_name(node.value.func) in _ENDS)
        for node in handler.body
    )  # fmt: skip


def _within(items: Sequence[ast.withitem], where: _Where) -> _Where:
    for item in items:
        call = item.context_expr
        name = _last_name(call.func) if isinstance(call, ast.Call) else None
        if isinstance(call, ast.Call) and name == "suppress":
            caught = _are_import_errors(call.args)
            where = where.at_most({True: HANDLED, None: MAYBE, False: CERTAIN}[caught])
        elif name not in _LETS_THROUGH:
            where = where.at_most(MAYBE)
    return where


def _is_main(test: ast.expr) -> bool | None:
    """Whether a test holds only of what is run, or of all else; None for another one."""
    if not isinstance(test, ast.Compare):
        return None
    sides = {ast.unparse(side) for side in (test.left, *test.comparators)}
    if sides != {"__name__", "'__main__'"} or not isinstance(test.ops[0], (ast.Eq, ast.NotEq)):
        return None
    return isinstance(test.ops[0], ast.Eq)


def _asks_for_module_or_machine(test: ast.expr) -> bool:
    return any(
        (isinstance(part, ast.Attribute) and ast.unparse(part) in _MACHINE)
        or (isinstance(part, ast.Call) and _last_name(part.func) in ("find_spec", "find_loader"))
        for part in ast.walk(test)
    )


def _names_pip(call: ast.Call) -> bool:
    words = (part.value for part in ast.walk(call) if isinstance(part, ast.Constant))
    return any(word == "pip" or (isinstance(word, str) and "pip install" in word) for word in words)


def _last_name(node: ast.AST | None) -> str | None:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)
