"""An int8 file does its task as float32 does, by the validation split, or it is refused."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, helper, numpy_helper

from marwright.export.quantise.int8 import CALIBRATION, INT8, Samples, quantise, refusal
from marwright.export.quantise.types import QuantiseReport
from marwright.export.to_onnx import export_onnx
from marwright.recipe.errors import ExportError, ParityError
from marwright.runtime.spec import ImageSpec
from marwright.training.models import small_cnn
from marwright.training.types import Splits
from tests.export.quantise.graphs import (
    chain,
    harmless,
    hopeless,
    model_of,
    outlier,
    samples_of,
    written,
)
from tests.projects import ROOT
from tests.training.conftest import image_samples

pytestmark = [pytest.mark.torch, pytest.mark.onnx]

LIMIT = 0.5


def int8_of(
    model: ModelProto, folder: Path, samples: Samples | None = None, limit: float = LIMIT
) -> QuantiseReport:
    return quantise(written(model, folder), samples or samples_of(), folder, limit=limit)


def run(path: Path, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["output"], {"input": rows})[0])


def test_a_harmless_model_is_int8_throughout(tmp_path: Path) -> None:
    report = int8_of(harmless(), tmp_path)
    assert report.ok
    assert report.metric == "r2"
    assert report.float32 == 1.0
    assert 0 < report.drop == report.drop_before < LIMIT
    assert report.excluded == []
    assert (report.layers, len(report.sensitivity)) == (4, 4)
    assert (report.calibration_samples, report.validation_samples) == (CALIBRATION, 100)
    assert report.float32_bytes == (tmp_path / "model.onnx").stat().st_size
    assert report.int8_bytes == (tmp_path / INT8).stat().st_size


def test_the_layer_that_int8_destroys_stays_float32_and_is_named(tmp_path: Path) -> None:
    report = int8_of(outlier(), tmp_path)
    assert report.drop_before > 50
    assert report.excluded == ["layer_3"]
    assert report.sensitivity[0].layer == "layer_3"
    assert report.sensitivity[0].error > 100 * report.sensitivity[1].error
    assert report.ok
    assert report.drop < LIMIT
    assert [attempt.excluded for attempt in report.attempts] == [0, 1]
    kept = {each.name: each for each in onnx.load(tmp_path / INT8).graph.initializer}
    assert (numpy_helper.to_array(kept["weight_3"]) == [[1], [1], [0]]).all()
    assert "weight_2" not in kept


def test_a_model_that_cannot_be_rescued_is_refused_with_what_was_tried(tmp_path: Path) -> None:
    report = int8_of(hopeless(), tmp_path)
    assert not report.ok
    assert report.drop == report.drop_before > LIMIT
    assert report.excluded == []
    # Half of four.
    assert [attempt.excluded for attempt in report.attempts] == [0, 1, 2]
    said = refusal(report)
    assert said.startswith(f"int8 costs {report.drop:.2f} points of r2 on the 100 validation samp")
    assert "[parity] max_metric_drop = 0.5 is allowed" in said
    assert f"{report.attempts[2].drop:.2f} without the costliest 2" in said
    assert f"The costliest, with their error alone: {report.sensitivity[0].layer} (Gemm, " in said
    assert said.endswith('Raise max_metric_drop, or set [export] precision = "fp32"')


def test_a_single_layer_is_never_excluded(tmp_path: Path) -> None:
    # What is not needed is here a column of the data.
    samples = samples_of()
    samples.splits.samples.rows[:, 1] *= 1e4
    samples.splits.samples.targets[:] = samples.splits.samples.rows[:, 0]
    report = int8_of(chain([[1.0], [0.0]]), tmp_path, samples)
    assert not report.ok
    assert [attempt.excluded for attempt in report.attempts] == [0]
    assert "does not mend it: there is only one" in refusal(report)


def test_the_limit_is_the_recipes(tmp_path: Path) -> None:
    assert int8_of(hopeless(), tmp_path, limit=1e6).ok
    drop = int8_of(harmless(), tmp_path).drop
    strict = int8_of(harmless(), tmp_path, limit=drop / 2)
    assert strict.attempts[0].drop == drop
    assert len(strict.attempts) > 1


def test_ranges_are_those_of_training_samples_alone(tmp_path: Path) -> None:
    samples = samples_of()
    rows = samples.splits.samples.rows
    rows[samples.splits.train] *= 3
    int8_of(harmless(), tmp_path, samples)
    seen = rows[samples.training()].astype(np.float32)
    weights = {w.name: w for w in onnx.load(tmp_path / INT8).graph.initializer}
    scale = numpy_helper.to_array(weights["input_scale"])
    assert scale == pytest.approx((seen.max() - seen.min()) / 255, rel=1e-6)


def test_no_sample_of_the_test_split_is_seen(tmp_path: Path) -> None:
    """They are NaN here; float32 itself then has no metric, and ranges have no ends."""
    samples = samples_of()
    assert int8_of(outlier(), tmp_path, samples).ok
    swapped = replace(samples.splits, validation=samples.splits.test)
    with pytest.raises(ParityError, match=r"r2 on the validation split is nan in float32"):
        int8_of(outlier(), tmp_path, replace(samples, splits=swapped))
    swapped = replace(samples.splits, train=samples.splits.test)
    with pytest.raises(ExportError, match="input is from nan to nan on training samples"):
        int8_of(outlier(), tmp_path, replace(samples, splits=swapped))


def test_few_training_samples_are_all_used(tmp_path: Path) -> None:
    assert int8_of(harmless(), tmp_path, samples_of(train=7, validation=5)).calibration_samples == 7


def test_a_model_whose_outputs_do_not_vary_has_errors_all_the_same(tmp_path: Path) -> None:
    report = int8_of(chain([[0.0], [0.0]]), tmp_path, limit=1e9)
    assert report.sensitivity[0].error == 0.0


def test_outputs_that_overflow_in_int8_are_beyond_any_limit(tmp_path: Path) -> None:
    # One over the smaller one of the inputs, which int8 makes zero.
    nodes = [
        helper.make_node("MatMul", ["input", "columns"], ["mixed"], "matmul"),
        helper.make_node("Gather", ["mixed", "second"], ["small"], "gather", axis=1),
        helper.make_node("Reciprocal", ["small"], ["output"], "reciprocal"),
    ]
    columns = np.array([[1e4, 0], [0, 1]], dtype=np.float32)
    samples = samples_of()
    table = samples.splits.samples
    table.rows[:] = np.abs(table.rows) + 0.1
    table.rows[:, 0] *= 1e4
    table.targets[:] = 1 / table.rows[:, 1]
    weights = {"columns": columns, "second": np.array([1])}
    report = int8_of(model_of(nodes, weights), tmp_path, samples)
    assert report.drop == float(2**64)
    assert not report.ok


WRITE = """
import sys
from pathlib import Path
from marwright.export.quantise.int8 import quantise
from marwright.archive.types import to_json
from tests.export.quantise.graphs import outlier, samples_of, written
folder = Path(sys.argv[1])
report = quantise(written(outlier(), folder), samples_of(), folder, limit=0.5)
(folder / "quantise.json").write_bytes(to_json(report))
"""


def test_fresh_processes_write_the_same_bytes_into_different_folders(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b" / "quite another"]
    running = []
    for number, folder in enumerate(folders):
        environment = {
            "PYTHONPATH": str(ROOT),
            "PYTHONHASHSEED": str(number),
            "TZ": f"UTC{number:+d}",
            "HOME": str(folder),
        }
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", WRITE, str(folder)],
                cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
    for process in running:
        # Not even a warning.
        assert process.communicate() == (b"", b"")
        assert process.returncode == 0
    for name in (INT8, "quantise.json"):
        first, second = ((folder / name).read_bytes() for folder in folders)
        assert first == second
        assert str(tmp_path).encode() not in first
    files = {path.name for path in folders[0].iterdir() if path.is_file()}
    assert files == {INT8, "model.onnx", "quantise.json"}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolutional network as the exporter writes it, its weights beside it."""
    folder = tmp_path_factory.mktemp("network")
    model = small_cnn.build((1, 8, 8), 2, width=4)
    return export_onnx(model, (1, 8, 8), 20, folder, inline_limit=1000)


def image_splits() -> Splits:
    places = np.arange(60)
    return Splits(
        samples=image_samples(60),
        contents=("",) * 60,
        train=places[:30],
        validation=places[30:50],
        test=places[50:],
    )


def test_an_exported_network_keeps_its_batch_axis_and_rows_do_not_mix(
    network: Path, tmp_path: Path
) -> None:
    assert network.with_name("model.onnx.data").exists()
    spec = ImageSpec(
        channels=1, height=8, width=8, fit="stretch", interpolation="bilinear",
        mean=(0.5,), std=(0.25,),
    )  # fmt: skip
    samples = Samples(splits=image_splits(), spec=spec, task="classification")
    report = quantise(network, samples, tmp_path, limit=100.0)
    assert report.metric == "accuracy"
    assert report.layers == 5
    assert report.float32_bytes > network.stat().st_size
    graph = onnx.load(tmp_path / INT8).graph
    for value in (*graph.input, *graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param == "batch"
    rows = np.concatenate([*samples.batches(np.arange(30, 50))])
    exact, alone = run(network, rows), np.concatenate([run(tmp_path / INT8, r[None]) for r in rows])
    assert np.abs(alone - exact).max() < 0.1 * np.ptp(exact)
    assert np.abs(alone - exact).max() > 0
    for batch in (2, 3, 7, 20):
        together = np.concatenate(
            [run(tmp_path / INT8, rows[i : i + batch]) for i in range(0, len(rows), batch)]
        )
        assert together == pytest.approx(alone, abs=1e-6)
