"""A workflow's spec, read strictly: what TorchServe would pass over or stumble on is a problem.

Keys, defaults and their order are those of `WorkFlow`, `Dag` and `WorkflowManager` in the jar of
TorchServe 0.12.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from marwright.archive.names import is_plain
from marwright.archive.rules.dag import dag_problems, end_nodes, nodes_of
from marwright.archive.rules.functions import function_problems, hinted
from marwright.archive.rules.plain_yaml import (
    Problem,
    RefusedError,
    plain,
    read_plain_yaml,
    shown,
    whole_problem,
)
from marwright.recipe.suggest import suggestion

# Of a node's name: `<workflow>__<node>` is the model's in URLs and in file names of logs.
_NODE = re.compile(r"[A-Za-z0-9._-]+")
# What SnakeYAML takes for a number, and PyYAML for text.
_EXPONENT = re.compile(r"[-+]?[0-9._]+[eE][-+]?[0-9]+")
_URL = re.compile(r"https?://.+", re.IGNORECASE)
_OTHERWISE = "and TorchServe refuses that: write keys and values, as `models:` and `dag:`"
# The least that means something, and what TorchServe takes where the spec says nothing.
SETTINGS = {
    "min-workers": (1, 1),
    "max-workers": (1, 1),
    "batch-size": (1, 1),
    "max-batch-delay": (0, 50),
    "retry-attempts": (0, 1),
    "timeout-ms": (1, 10_000),
}
_DEFAULTS = {key: default for key, (_, default) in SETTINGS.items() if key != "min-workers"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecModel:
    """A model of a workflow: `url` is an archive's name in the model store, or http(s).

    `settings` are those that TorchServe looks at, at its own defaults where the spec is silent;
    `min_workers` it never looks at.
    """

    url: str
    settings: dict[str, int]
    min_workers: int | None

    @property
    def is_remote(self) -> bool:
        """Whether the server fetches it."""
        return _URL.fullmatch(self.url) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A workflow's models by name, and its graph; nodes that are no model are functions."""

    models: dict[str, SpecModel]
    dag: dict[str, tuple[str, ...]]

    @property
    def functions(self) -> list[str]:
        """The nodes that TorchServe looks for in the workflow's handler."""
        return [node for node in nodes_of(self.dag) if node not in self.models]

    @property
    def ends(self) -> list[str]:
        """The nodes whose answers are the workflow's."""
        return end_nodes(self.dag)


def read_spec(data: bytes) -> tuple[Spec, list[str]]:
    """Read a spec; also return its problems, a line each, as they stand in it.

    Never raises for bad data: what cannot be read is left out.
    """
    try:
        file = read_plain_yaml(data, strict=(), otherwise=_OTHERWISE)
    except RefusedError as refusal:
        return Spec(models={}, dag={}), [str(refusal)]
    problems = [*file.problems]
    for key in file.values.keys() - {"models", "dag"}:
        hint = suggestion(key, ("models", "dag"))
        problems.append((plain(key), f"TorchServe ignores it{hint}: remove it"))
    models, dag = dict[str, SpecModel](), dict[str, tuple[str, ...]]()
    for key, example in (("models", "m1: {url: m1.mar}"), ("dag", "m1: [m2]")):
        value = file.values.get(key)
        # What stands there and has no value was said to be unreadable.
        if key not in file.values and key not in file.places:
            problems.append((key, f"missing: write it, with what is in it below, as `{example}`"))
        elif key in file.values and not isinstance(value, dict):
            kind = "empty" if value is None else f"{shown(value)} is no mapping"
            problems.append((key, f"{kind}, and TorchServe refuses that: write `{example}` below"))
        elif key == "models" and isinstance(value, dict):
            problems += _read_models(value, models)
        elif isinstance(value, dict):
            problems += _read_dag(value, dag)
    if "models.<<" in file.places:
        # Only PyYAML takes what is merged in for the first of them.
        problems.append(("models.<<", "TorchServe reads models in their order: write it out"))
    spec = Spec(models=models, dag=dag)
    if not problems:
        problems = [*dag_problems(dag), *_unused(spec)]
    return spec, file.lines(problems)


def node_problems(spec: Spec, handler: str, read: Callable[[str], bytes | None]) -> list[str]:
    """Say which nodes are neither models nor functions of the handler; `read` gives a member."""
    package = f"{handler.removesuffix('.py')}/__init__.py"
    if handler and read(package) is not None:
        return [f"{handler}: Python would import {package} in its place: rename one of them"]
    if handler and (source := read(handler)) is not None:
        return function_problems(handler, source, spec.functions)
    return [
        f"dag: {node} is none of the models, and there is no handler to have it as a function: add "
        f"one, with `def {node}(data, context):`" for node in spec.functions
    ]  # fmt: skip


def notes_on(spec: Spec, handler: str) -> list[str]:
    """Say what is worth knowing of a spec that has no problems."""
    notes = [f"models.{name}.url: {model.url} is fetched by the server, if its allowed_urls let it"
             for name, model in spec.models.items() if model.is_remote]  # fmt: skip
    for name, model in spec.models.items():
        if model.min_workers is not None and model.min_workers < model.settings["max-workers"]:
            notes.append(f"models.{name}: TorchServe never looks at min-workers, and starts "
                         f"max-workers, {model.settings['max-workers']}, at once")  # fmt: skip
    if len(spec.ends) > 1:
        notes.append(f"dag: ends with {', '.join(spec.ends)}: the answer is an object with theirs "
                     "by name, and each of them must be a JSON object")  # fmt: skip
    if handler and not spec.functions:
        notes.append(f"{handler}: no node is a function of it")
    return notes


def _read_models(values: Mapping[Any, Any], models: dict[str, SpecModel]) -> Iterator[Problem]:
    """Take what can be read, in TorchServe's own way: a default holds for what comes after it."""
    defaults = dict[str, int]()
    own: dict[str, set[str]] = {}
    for name, value in values.items():
        place = f"models.{plain(str(name))}"
        if not isinstance(name, str):
            yield from _no_text(place, name)
        elif name in SETTINGS:
            if problem := _number_problem(name, value):
                yield place, problem
                continue
            if late := [model for model, keys in own.items() if name not in keys]:
                kept = defaults.get(name, SETTINGS[name][1])
                yield place, (f"stands below {', '.join(map(plain, late))}, which TorchServe gives "
                              f"{kept}: move it to the top of models")  # fmt: skip
            defaults[name] = value
        elif not isinstance(value, dict):
            hint = suggestion(name, SETTINGS) if isinstance(value, int) else ""
            yield place, (f"{shown(value)} is no mapping, and TorchServe refuses that: write a "
                          f"model as `m1: {{url: m1.mar}}`{hint}")  # fmt: skip
        else:
            own[name] = {key for key in value if isinstance(key, str)}
            yield from _read_model(name, value, defaults, models)


def _read_model(
    name: str, value: dict[Any, Any], defaults: dict[str, int], models: dict[str, SpecModel]
) -> Iterator[Problem]:
    place, settings = f"models.{plain(name)}", dict(defaults)
    for key, inner in value.items():
        if not isinstance(key, str):
            yield from _no_text(f"{place}.{plain(str(key))}", key)
        elif key in SETTINGS:
            if problem := _number_problem(key, inner):
                yield f"{place}.{key}", problem
            else:
                settings[key] = inner
        elif key != "url":
            hint = suggestion(key, (*SETTINGS, "url"))
            yield f"{place}.{plain(key)}", f"TorchServe ignores it{hint}"
    low, settings = settings.pop("min-workers", None), {**_DEFAULTS, **settings}
    high = settings["max-workers"]
    if low is not None and low > high:
        where = place if "min-workers" in value else "models"
        yield f"{where}.min-workers", (f"{low} is more than max-workers, and TorchServe starts "
                                       f"{high}: write max-workers: {low}")  # fmt: skip
    url = value.get("url")
    if problem := _url_problem(url):
        yield f"{place}.url" if "url" in value else place, problem
    else:
        models[name] = SpecModel(url=str(url), settings=settings, min_workers=low)


def _number_problem(key: str, value: Any) -> str:
    least, _ = SETTINGS[key]
    return whole_problem(value, least, "refuses the workflow")


def _url_problem(url: Any) -> str:
    if not isinstance(url, str) or not url:
        return "a model needs the name of its archive in the model store: write `url: m1.mar`"
    if _URL.fullmatch(url):
        return "" if url.isprintable() else "no URL: it has characters that do not print"
    if "://" in url:
        return f"{plain(url)}: neither the name of an archive in the model store nor http(s)"
    if "/" in url or ".." in url or not is_plain(url):
        return (f"{plain(url)}: TorchServe looks in the model store alone, whatever folder stands "
                "here: write the archive's plain name")  # fmt: skip
    return ""


def _read_dag(values: Mapping[Any, Any], dag: dict[str, tuple[str, ...]]) -> Iterator[Problem]:
    if not values:
        yield "dag", "has no nodes: write what follows what, as `m1: [m2]`"
    for node, after in values.items():
        place = f"dag.{plain(str(node))}"
        if not isinstance(node, str):
            yield from _no_text(place, node)
            continue
        yield from _node_problems(place, node)
        if not isinstance(after, list):
            yield place, f"{shown(after)} is no list, and TorchServe refuses that: write `[m2]`"
            continue
        for other in after:
            yield from _node_problems(place, other)
        dag[node] = tuple(other for other in after if isinstance(other, str))


def _node_problems(place: str, node: Any) -> Iterator[Problem]:
    if not isinstance(node, str):
        does = "leaves it out without a word" if node is None else "refuses the workflow"
        yield place, f"{shown(node)} is no node's name, and TorchServe {does}: write text"
    elif not _NODE.fullmatch(node):
        yield place, (f"{shown(node)} is no name for a node: letters, digits, '.', '_' and '-' "
                      "only, as it goes into URLs")  # fmt: skip
    elif _EXPONENT.fullmatch(node):
        yield place, f"{node} is a number to TorchServe: give the node another name"


def _no_text(place: str, key: Any) -> Iterator[Problem]:
    # The others were found when the file was read.
    if key is not None and not isinstance(key, bool):
        kind = type(key).__name__
        yield place, f"YAML reads this key as {kind}, not as text: put it in quotes"


def _unused(spec: Spec) -> Iterator[Problem]:
    nodes = {*nodes_of(spec.dag)}
    unused = [name for name in spec.models if name not in nodes]
    for name, hint in hinted(unused, spec.functions):
        problem = f"no node of the dag is called so{hint}: name it there, or remove it, as "
        yield f"models.{plain(name)}", f"{problem}TorchServe does without a word"
