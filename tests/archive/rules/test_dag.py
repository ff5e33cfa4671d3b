"""Graphs of workflows: circles are found and named, whatever the graph."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marwright.archive.rules.dag import dag_problems, end_nodes, find_cycle, nodes_of, start_nodes

Graph = dict[str, list[str]]


@st.composite
def acyclic(draw: st.DrawFn) -> Graph:
    """Edges lead from earlier to later nodes only; the names say nothing of that order."""
    names = draw(st.lists(st.text("abcxyz_", min_size=1, max_size=4), min_size=1, unique=True))
    pairs = [*itertools.combinations(names, 2)]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else []
    graph: Graph = {name: [] for name in names}
    for before, after in chosen:
        graph[before].append(after)
    return {name: graph[name] for name in draw(st.permutations(names))}


def reachable(graph: Graph, node: str) -> set[str]:
    found, waiting = {node}, [node]
    while waiting:
        new = set(graph[waiting.pop()]) - found
        found |= new
        waiting += new
    return found


@given(acyclic())
def test_graph_without_a_circle_has_none(graph: Graph) -> None:
    assert find_cycle(graph) == []
    assert set(nodes_of(graph)) == set(graph)
    assert end_nodes(graph) == [node for node in nodes_of(graph) if not graph[node]]
    starts = start_nodes(graph)
    assert starts
    assert not {after for nodes in graph.values() for after in nodes} & set(starts)
    # TorchServe takes one start only, and that is all that can be wrong here.
    found = [*dag_problems(graph)]
    assert [place for place, _ in found] == (["dag"] if len(starts) > 1 else [])


@given(acyclic(), st.data())
def test_an_edge_back_makes_a_circle_that_is_named(graph: Graph, data: st.DataObject) -> None:
    first = data.draw(st.sampled_from(sorted(graph)))
    last = data.draw(st.sampled_from(sorted(reachable(graph, first))))
    graph = {**graph, last: [*graph[last], first]}
    cycle = find_cycle(graph)
    assert len(cycle) > 1
    assert cycle[0] == cycle[-1]
    assert len(set(cycle)) == len(cycle) - 1
    for node, after in itertools.pairwise(cycle):
        assert after in graph[node]
    [(place, line)] = dag_problems(graph)
    assert place == f"dag.{cycle[0]}"
    assert line.endswith("goes round in a circle: remove one of these")


@pytest.mark.parametrize(
    ("graph", "place", "line"),
    [
        ({"a": ["a"]}, "dag.a", "a → a goes round"),
        ({"a": ["b"], "b": ["a"]}, "dag.a", "a → b → a goes round"),
        ({"p": ["a"], "a": ["b"], "b": ["c"], "c": ["a", "end"]}, "dag.a", "a → b → c → a goes"),
        ({"p": [], "a": ["b"], "b": ["a"]}, "dag.a", "a → b → a goes round"),
        ({"a": ["b", "c", "b"]}, "dag.a", "b stands here 2 times: name it once"),
        ({"a": ["c"], "b": ["c"]}, "dag", "starts with a, b, and TorchServe takes one start only"),
        ({"a": [], "b": []}, "dag", "starts with a, b, "),
    ],
)
def test_what_torchserve_refuses_is_named(graph: Graph, place: str, line: str) -> None:
    [(where, said)] = dag_problems(graph)
    assert where == place
    assert said.startswith(line)


def test_long_chains_and_circles_take_no_stack_and_little_time_and_room() -> None:
    chain = {f"n{number}": [f"n{number + 1}"] for number in range(40_000)}
    start = time.process_time()
    assert [*dag_problems(chain)] == []
    [(place, line)] = dag_problems({**chain, "n40000": ["n0"]})
    assert time.process_time() - start < 3
    assert place == "dag.n0"
    assert line == (
        "n0 → n1 → n2 → n3 → n4 → … → n40000 → n0 goes round in a circle: remove one of these"
    )


def test_nodes_need_not_be_keys() -> None:
    assert nodes_of({"a": ["b", "c"], "b": ["d"]}) == ["a", "b", "c", "d"]
    assert end_nodes({"a": ["b", "c"], "b": ["d"]}) == ["c", "d"]
    assert start_nodes({"a": ["b", "c"], "b": ["d"]}) == ["a"]
