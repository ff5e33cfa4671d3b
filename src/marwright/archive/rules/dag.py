"""A workflow's graph, held against what TorchServe's `Dag` accepts, with the nodes to mend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from marwright.archive.rules.plain_yaml import Problem

# Which nodes each node's answer goes to; those without any need not be keys.
Edges = Mapping[str, Sequence[str]]
# Nodes of a circle that are named in a line.
_SHOWN = 10


def nodes_of(edges: Edges) -> list[str]:
    """Return every node once, in the order in which they are first named."""
    return [*dict.fromkeys(node for key, after in edges.items() for node in (key, *after))]


def dag_problems(edges: Edges) -> Iterator[Problem]:
    """Yield why TorchServe would refuse to register a graph, each under its place in the spec."""
    for node, after in edges.items():
        for other, count in Counter(after).items():
            if count > 1:
                yield f"dag.{node}", f"{other} stands here {count} times: name it once"
    if cycle := find_cycle(edges):
        steps = cycle if len(cycle) <= _SHOWN else [*cycle[: _SHOWN // 2], "…", *cycle[-2:]]
        yield f"dag.{cycle[0]}", f"{' → '.join(steps)} goes round in a circle: remove one of these"
        return
    starts = start_nodes(edges)
    if len(starts) > 1:
        yield "dag", (f"starts with {', '.join(starts)}, and TorchServe takes one start only: let "
                      "one node, a function for example, lead to them")  # fmt: skip


def start_nodes(edges: Edges) -> list[str]:
    """Return the nodes that no other leads to."""
    reached = {node for after in edges.values() for node in after}
    return [node for node in nodes_of(edges) if node not in reached]


def end_nodes(edges: Edges) -> list[str]:
    """Return the nodes that lead to no other: their answers are the workflow's."""
    return [node for node in nodes_of(edges) if not edges.get(node)]


def find_cycle(edges: Edges) -> list[str]:
    """Return a cycle, its first node again at the end; nothing when there is none."""
    before: dict[str, set[str]] = {node: set() for node in nodes_of(edges)}
    for node, after in edges.items():
        for other in after:
            before[other].add(node)
    waiting = start_nodes(edges)
    while waiting:
        node = waiting.pop()
        del before[node]
        for other in set(edges.get(node, ())):
            before[other].discard(node)
            if not before[other]:
                waiting.append(other)
    if not before:
        return []
    # What is left has a node before it that is left too, so a walk backwards must meet itself.
    path, last = dict[str, None](), next(iter(before))
    while last not in path:
        path[last] = None
        last = min(before[last])
    steps = [*path]
    return [last, *reversed(steps[steps.index(last) :])]
