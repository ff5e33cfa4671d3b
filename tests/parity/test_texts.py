"""Texts in the gate: alone without padding, together with it, edges, draws, and the search."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from bench.mutants.onnx_values import reweigh
from bench.mutants.reduced import DECLARED, in_bfloat16, quantised
from bench.mutants.traced import MeanOfPadding
from marwright.parity.backends import Array, Outputs, Run, eager_backend, onnx_backend
from marwright.parity.compare import Comparison, Settings
from marwright.parity.gate import run_gate
from marwright.parity.inputs import Domain, Group, boundary, domain_of, drawn, other_shapes
from marwright.parity.inputs_file import read_inputs, write_inputs
from marwright.parity.pictures import columns, picture, text
from marwright.parity.search import Field, search
from marwright.parity.subject import subject_of
from marwright.parity.texts import (
    HIGHEST,
    LOWEST,
    bare,
    halves,
    joined,
    lengths,
    replaced,
    shown,
    trimmed,
)
from marwright.parity.types import Tolerance
from marwright.parity.verdict.judge import Judge, Yardstick, in_parts
from marwright.recipe.errors import ParityError
from marwright.recipe.types import Parity
from marwright.runtime.preprocess import text_array
from marwright.runtime.spec import TextSpec
from marwright.training.models import text_cnn
from tests.archive.proven import one_thread
from tests.parity.conftest import Shelf

pytestmark = [pytest.mark.torch, pytest.mark.onnx]

SPEC = TextSpec(max_bytes=20)
DOMAIN = domain_of(SPEC, np.zeros((0, 20), np.int64), {0: ("length", 1, 20)})
FLOATS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> object:
    with one_thread():
        yield


def rows(*texts: str) -> Array:
    return text_array(texts, SPEC)


def group(found: Array) -> Group:
    return Group(kind="held-out", rows=found, names=tuple(f"text {n}" for n in range(len(found))))


# --- rows -----------------------------------------------------------------------------------


def test_a_batch_is_cut_to_its_longest_text() -> None:
    every = rows("ab", "abcdef", "a")
    assert trimmed(every).shape == (3, 6)
    assert trimmed(every[[0, 2]]).tolist() == [[98, 99], [98, 0]]
    assert bare(every[2]).tolist() == [98]
    assert trimmed(np.zeros((2, 5), np.int64)).shape == (2, 1)
    assert lengths(every).tolist() == [2, 6, 1]


def test_what_is_no_text_is_left_as_it_is() -> None:
    assert trimmed(FLOATS) is FLOATS
    blank = np.zeros((2, 3), dtype=np.float32)
    assert trimmed(blank).shape == (2, 3)
    assert bare(FLOATS[1]).tolist() == FLOATS[1].tolist()


def test_halves_keep_the_beginning_and_the_width() -> None:
    assert halves(rows("abcd", "abc", "a")).tolist() == [
        [98, 99, 0, 0], [98, 99, 0, 0], [98, 0, 0, 0],
    ]  # fmt: skip


def test_parts_are_as_long_as_their_own_longest() -> None:
    seen: list[tuple[int, ...]] = []

    def run(inputs: Array) -> Outputs:
        seen.append(inputs.shape)
        return inputs[:, :1].astype(np.float64)

    every = rows("ab", "a", "abcdef", "abc")
    assert in_parts(run, every, 2).shape == (4, 1)
    assert seen == [(2, 2), (2, 6)]
    seen.clear()
    in_parts(run, every, 1)
    assert seen == [(1, 2), (1, 1), (1, 6), (1, 3)]


def test_a_text_is_shown_as_it_is_read() -> None:
    row = rows("größe", "longer than that")[0]
    assert text(row, SPEC) == shown(row) == "größe"
    assert shown(rows("größe")[0][:3]) == "gr\ufffd"
    assert (picture(row, SPEC), columns(row, SPEC)) == ("", {})


# --- inputs ---------------------------------------------------------------------------------


def inside(found: Array) -> bool:
    """Whether rows are texts: bytes in front, one at least, and padding behind."""
    there = found != 0
    behind = (np.arange(found.shape[1]) >= lengths(found)[:, None]) == ~there
    right = (found[there] >= LOWEST) & (found[there] <= HIGHEST)
    return bool(behind.all() and right.all() and (lengths(found) >= 1).all())


def test_the_domain_is_any_byte_up_to_the_longest() -> None:
    assert (DOMAIN.dtype, DOMAIN.shape, DOMAIN.dynamic) == ("int64", (20,), {0: (1, 20)})
    good = np.array([LOWEST, HIGHEST, 98])
    assert DOMAIN.holds(good)
    assert DOMAIN.holds(np.full(20, 5))
    for bad in (
        np.full(21, 5), np.array([], np.int64), good[None], good.astype(np.int32),
        good.astype(np.float32), np.array([98, 0, 98]), np.array([98, 257]), np.array([-1]),
    ):  # fmt: skip
        assert not DOMAIN.holds(bad)
    plain = Domain(shape=(3,), low=np.zeros(3), high=np.ones(3))
    assert plain.holds(FLOATS[0])
    assert not plain.holds(FLOATS[0].astype(np.float64))


def test_edges_are_of_one_byte_and_of_full_length() -> None:
    edges = boundary(DOMAIN)
    assert inside(edges.rows)
    assert len(edges.names) == len(set(edges.names)) == len(edges.rows)
    by_name = {n: bare(row).tolist() for n, row in zip(edges.names, edges.rows, strict=True)}
    assert by_name["one byte, the lowest"] == [1]
    assert by_name["one byte, the highest"] == [256]
    assert by_name["full length of one letter"] == [98] * 20
    assert by_name["full length of the highest"] == [256] * 20
    assert by_name["alternating, low first"] == [1, 256] * 10
    assert by_name["every byte in order"] == [*range(1, 21)]
    assert by_name["one byte less than full length"] == [98] * 19
    assert by_name["single high byte 10"] == [1] * 10 + [256] + [1] * 9
    # The first of them are what a small budget keeps.
    assert {1, 20} == {len(by_name[name]) for name in edges.names[:8]}


@pytest.mark.parametrize("longest", [4, 5, 300])
def test_edges_of_any_length(longest: int) -> None:
    edges = boundary(replace(DOMAIN, shape=(longest,), dynamic={0: (1, longest)}))
    assert inside(edges.rows)
    assert edges.rows.shape[1] == longest


def test_draws_are_of_many_lengths_and_of_few_bytes_or_many() -> None:
    found = drawn(DOMAIN, 64, 0)
    assert inside(found.rows)
    assert len(set(lengths(found.rows).tolist())) > 8
    kinds = [len(set(bare(row).tolist())) for row in found.rows if lengths(row[None])[0] > 10]
    assert min(kinds) == 1
    assert max(kinds) >= 8
    # To a mean they differ, as noise of all bytes does not.
    means = np.array([bare(row).mean() for row in found.rows])
    assert means.std() > 40
    assert (drawn(DOMAIN, 64, 0).rows == found.rows).all()
    assert (drawn(DOMAIN, 64, 1).rows[:, :1] != found.rows[:, :1]).any()


def test_every_fourth_is_made_of_halves_of_two_real_texts() -> None:
    real = rows("abcd", "ABCDEF", "12345678901234567890")
    found = drawn(DOMAIN, 16, 0, real)
    blends = [n for n, name in enumerate(found.names) if name.startswith("halves of held-out")]
    assert blends == [3, 7, 11, 15]
    for place in blends:
        one, other = (int(word) for word in found.names[place].split()[-3::2])
        assert bare(found.rows[place]).tolist() == joined(real[one], real[other]).tolist()
    assert shown(joined(real[0], real[1])) == "abDEF"
    assert shown(joined(real[2], real[0])) == "1234567890cd"
    assert inside(found.rows)


def test_other_lengths_have_no_padding() -> None:
    groups = other_shapes(DOMAIN, 0)
    sizes = [found.rows.shape[1] for found in groups]
    assert 1 in sizes
    assert all(1 <= size < 20 for size in sizes)
    for found in groups:
        assert (found.kind, len(found.rows)) == ("shapes", 3)
        assert (lengths(found.rows) == found.rows.shape[1]).all()


def test_some_bytes_are_replaced_and_no_length() -> None:
    before = rows("a", "abcdefghij", "x" * 20)
    after = replaced(before, 0.2, np.random.default_rng(0))
    assert (lengths(after) == lengths(before)).all()
    assert inside(after)
    changed = (after != before).sum(axis=1)
    assert changed.max() <= 4
    assert changed.sum() > 0
    assert (before == rows("a", "abcdefghij", "x" * 20)).all()


# --- the checkpoint -------------------------------------------------------------------------


def network(kind: type[text_cnn.TextCnn] = text_cnn.TextCnn) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(3, 4, 3, 0.0).eval()


def judge(model: nn.Module, real: Array) -> Judge:
    yardstick = Yardstick(run=eager_backend(model), tolerance=Tolerance(k=8.0, floor=1e-6))
    return Judge(model, {"onnx": yardstick}, group(real), 7)


TEXTS = ("the cat sat", "on a mat", "and slept", "a", "until it rained", "then it ran")


def test_a_checkpoint_that_masks_padding_is_right() -> None:
    found = judge(network(), rows(*TEXTS))
    assert (found.padded, found.dependent, found.random) == (False, False, False)
    found.expect([boundary(DOMAIN), drawn(DOMAIN, 16, 0)])
    assert (found.padded, found.dependent) == (False, False)


@pytest.mark.parametrize("texts", [TEXTS, ("abcd", "efgh", "ijkl", "mnop")])
def test_a_checkpoint_that_counts_padding_is_noticed(texts: tuple[str, ...]) -> None:
    """Of texts of one length, too: those of a server are of many."""
    assert judge(network(MeanOfPadding), rows(*texts)).padded


def test_texts_of_one_byte_have_nothing_to_be_cut() -> None:
    assert not judge(network(MeanOfPadding), rows("a", "b", "c")).padded


def test_the_reference_is_of_texts_without_padding_of_strangers() -> None:
    """Rows of one chunk share a width, those of the next have their own."""
    every = rows("a", "b", "c" * 20)
    yardstick = Yardstick(run=eager_backend(network()), tolerance=Tolerance(k=8.0, floor=1e-6))
    seen: list[int] = []

    def watching(inputs: Array) -> Outputs:
        seen.append(inputs.shape[1])
        return eager_backend(network())(inputs)

    Judge(network(), {"onnx": replace(yardstick, run=watching)}, group(every), 2)
    assert seen[:2] == [1, 20]


# --- backends -------------------------------------------------------------------------------


def test_an_onnx_file_of_other_inputs_is_refused(shelf: Shelf) -> None:
    healthy = shelf("text")
    with pytest.raises(ParityError, match=r"takes input: tensor\(int64\), not .*tensor\(float\)"):
        onnx_backend(healthy.onnx, optimised=True, threads=1)
    other = shelf("residual")
    with pytest.raises(ParityError, match=r"takes input: tensor\(float\), not .*tensor\(int64\)"):
        onnx_backend(other.onnx, optimised=True, threads=1, dtype="int64")


# --- the search -----------------------------------------------------------------------------


def field(run: Run, model: nn.Module) -> Field:
    return Field(
        eager=model,
        backends={"onnx": run},
        noise={"onnx": np.full(3, 1e-6)},
        domain=DOMAIN,
        classification=True,
        serving=2,
    )


def test_the_search_replaces_bytes_towards_what_diverges() -> None:
    """A backend that is wrong by how many bytes are high, which no real text has."""
    model, exact = network(), eager_backend(network())

    def run(inputs: Array) -> Outputs:
        high = (inputs > 200).sum(axis=1, keepdims=True)
        return exact(inputs) + 1e-6 * high**2

    real = group(rows(*TEXTS))
    worst, told = search(field(run, model), real, 12, 0)
    assert (told.starts, told.steps, told.evaluated) == (6, 96, 6 * 97)
    assert told.first_ratio < 1
    # Seven of them, of at most fifteen.
    assert told.worst_ratio > 49
    assert inside(worst.rows)
    assert worst.rows.shape[1] == real.rows.shape[1]
    assert [name.startswith("found from text ") for name in worst.names] == [True] * len(worst.rows)
    again, _ = search(field(run, model), real, 12, 0)
    assert (again.rows == worst.rows).all()
    other, _ = search(field(run, model), real, 12, 1)
    assert (other.rows != worst.rows).any()


def test_half_of_the_search_goes_where_the_checkpoint_is_least_sure() -> None:
    model = network()
    exact = eager_backend(model)

    def coarse(inputs: Array) -> Outputs:
        return np.round(exact(inputs) * 256) / 256

    def margin(found: Array) -> float:
        ranked = np.sort(exact(found), axis=1)
        return float((ranked[:, -1] - ranked[:, -2]).min())

    real = group(rows(*TEXTS))
    worst, told = search(field(coarse, model), real, 12, 0)
    assert told.flips > 0
    assert margin(worst.rows) < 0.1 * margin(real.rows)


# --- the whole gate -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["text", "recurrent"])
def test_the_report_shows_texts_and_layers(shelf: Shelf, name: str) -> None:
    healthy = shelf(name)
    outcome = run_gate(healthy.candidate(), healthy.subject(), Parity())
    report = outcome.report
    assert report.ok, report.problems
    assert report.notes == []
    assert {"held-out", "boundary", "random", "shapes", "worst"} <= {*report.samples}
    assert report.search is not None
    assert all(each.text and not each.png and not each.values for each in report.worst)
    assert len(report.layers) > 5
    assert {"Gather", "Gemm"} <= {layer.op for layer in report.layers}
    # Without their padding, so that they can be kept.
    for row in outcome.worst:
        assert healthy.subject().domain.holds(row)


def test_what_was_kept_is_tried_first_in_one_batch(shelf: Shelf, tmp_path: Path) -> None:
    healthy = shelf("text")
    kept = [bare(row) for row in rows("a", "longer", "{}")]
    write_inputs(kept, tmp_path / "kept.safetensors")
    read = read_inputs(tmp_path / "kept.safetensors")
    assert [row.dtype for row in read] == [np.int64] * 3
    subject = subject_of(healthy.recipe, healthy.checkpoint, healthy.splits, read)
    [found] = subject.kept
    assert (found.kind, found.rows.shape) == ("regression", (3, 6))
    assert [shown(row) for row in found.rows] == ["a", "longer", "{}"]
    report = run_gate(healthy.candidate(), subject, Parity(), quick=True).report
    assert (report.ok, report.samples["regression"]) == (True, 3)


@pytest.mark.parametrize(
    "row",
    [np.array([98.0], np.float32), np.array([98, 0, 98]), np.full(49, 98), np.array([300])],
    ids=["float", "padding inside", "too long", "no byte"],
)
def test_kept_inputs_that_are_no_texts_are_refused(shelf: Shelf, row: Array) -> None:
    healthy = shelf("text")
    said = r"input 0 is \w+ \(\d+,\), and the model takes int64 of up to 48 numbers from 1 to 256"
    with pytest.raises(ParityError, match=said):
        subject_of(healthy.recipe, healthy.checkpoint, healthy.splits, [row])


def test_a_fault_of_a_text_leaves_a_folder_that_shows_it(shelf: Shelf, tmp_path: Path) -> None:
    healthy = shelf("text")
    model = onnx.load(healthy.onnx)
    [weight] = [each for each in model.graph.initializer if each.name == "second.weight"]
    right = numpy_helper.to_array(weight).copy()
    reweigh(model, "second.weight", lambda values: values * np.float32(1.01))
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    candidate, folder = replace(healthy.candidate(), onnx=path), tmp_path / "repro"
    report = run_gate(candidate, healthy.subject(), Parity(), repro=folder).report
    assert report.divergence is not None
    assert "second.weight is not the checkpoint's" in report.divergence.how
    assert _runs(folder) == 1
    part = onnx.load(folder / "model.onnx")
    reweigh(part, "second.weight", lambda _: right)
    onnx.save(part, folder / "model.onnx")
    assert _runs(folder) == 0


def _runs(folder: Path) -> int:
    ran = subprocess.run(
        [sys.executable, "-I", "-W", "error", "repro.py"],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.stderr == ""
    return ran.returncode


def test_a_trace_that_is_wrong_from_its_input_on_is_shown_alone(
    shelf: Shelf, tmp_path: Path
) -> None:
    """Integers go into the folder, and come out of it as integers."""
    from bench.mutants.traced import write_trace

    healthy = shelf("text")
    other = healthy.network().eval()
    other.load_state_dict(healthy.eager.state_dict())
    other.get_parameter("embedding.weight").data[98] += 0.1
    origin = healthy.candidate().origin
    path = write_trace(other, healthy.shape, tmp_path, origin=origin, dtype=healthy.dtype)
    folder = tmp_path / "repro"
    report = run_gate(
        replace(healthy.candidate(), traced=path), healthy.subject(), Parity(), repro=folder
    ).report
    assert report.divergence is not None
    assert (report.divergence.op, report.divergence.node) == ("Embedding", "embedding")
    assert _runs(folder) == 1


def test_nothing_is_wrong_in_int8_and_embeddings_stay_float32(shelf: Shelf) -> None:
    healthy = shelf("text")
    candidate = quantised(healthy)
    assert candidate.int8 is not None
    graph = onnx.load(candidate.int8).graph
    [table] = [each for each in graph.initializer if each.name == "embedding.weight"]
    assert numpy_helper.to_array(table).dtype == np.float32
    assert any(node.op_type == "DequantizeLinear" for node in graph.node)
    report = run_gate(candidate, healthy.subject(), DECLARED).report
    assert report.problems == []


@pytest.mark.parametrize("name", ["text", "recurrent"])
def test_nothing_is_wrong_in_bfloat16(shelf: Shelf, name: str) -> None:
    healthy = shelf(name)
    folder = healthy.onnx.parent / "bf16"
    folder.mkdir(exist_ok=True)
    report = run_gate(in_bfloat16(healthy, folder), healthy.subject(), DECLARED).report
    assert report.problems == []


def test_rows_that_fail_are_kept_as_they_went_through(shelf: Shelf) -> None:
    healthy = shelf("text")
    settings = Settings(tolerance=Tolerance(k=8.0, floor=1e-6), task="classification", serving=3)
    real = healthy.subject().real.at(np.arange(12))
    broken = replace(healthy.candidate(), traced=healthy.onnx.with_name("not there.pt"))
    assert Comparison(broken, real, settings).samples == {}
    comparison = Comparison(healthy.candidate(), real, settings)
    comparison.compare([real])
    assert comparison.faults == []
    assert all(found.row.min() >= LOWEST for found in comparison.found)
