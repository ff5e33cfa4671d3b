"""Handlers that are entered by `handle`: healthy ones pass, and each fault of one is named."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import msgspec
import pytest
import torch

from marwright.archive import probe
from marwright.archive.answers.handled import Reference, check_handled
from marwright.archive.golden import golden_members
from marwright.archive.model_config import handler_options
from marwright.archive.proven import pack_proven
from marwright.archive.run import run
from marwright.archive.types import GOLDEN_INDEX, AnswersReport, GoldenIndex, from_json
from marwright.archive.verify import verify
from marwright.parity.backends import reference_backend
from marwright.recipe.errors import PackError
from marwright.recipe.types import Recipe
from tests.archive.answers.handlers import DERIVED, PLAIN, ROWS
from tests.archive.proven import ATOL, RTOL, Proven
from tests.archive.tiny import answers_report, members_of, parity_report, rewrite

pytestmark = [pytest.mark.torch, pytest.mark.onnx]

WHERE = "handlers/strange.py: "
NO_RANKING = 'the answers are not {"predictions": [{"label": …, "probability": …}, …]}'


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a handler of one's own into a project; returns its root."""
    root = tmp_path_factory.mktemp("project")
    (root / "handlers").mkdir()

    def write(source: str, old: str = "", new: str = "") -> Path:
        assert old in source
        (root / "handlers/strange.py").write_text(source.replace(old, new) if old else source)
        return root

    return write


def recipe_of(made: Proven) -> Recipe:
    serve = msgspec.structs.replace(made.recipe.serve, handler="handlers/strange.py")
    return msgspec.structs.replace(made.recipe, serve=serve)


def handled(made: Proven, root: Path) -> AnswersReport:
    payload = torch.jit.load(str(made.traced)).eval()
    reference = Reference(run=reference_backend(made.model), atol=ATOL, rtol=RTOL)
    return check_handled(
        recipe_of(made), root, made.meta, made.splits, made.traced, payload, reference
    )


def said(report: AnswersReport) -> str:
    assert not report.ok
    assert all(text.startswith(WHERE) for text in report.problems)
    return report.problems[0].removeprefix(WHERE)


# Healthy ones


def test_a_class_that_derives_from_nothing_is_checked_from_requests_to_labels(
    proven_image: Proven, own: Callable[..., Path]
) -> None:
    report = handled(proven_image, own(PLAIN))
    assert (report.ok, report.problems, report.notes, report.absent) == (True, [], [], [])
    assert (report.requests, report.exports) == (len(proven_image.splits.test), ["torchscript"])


def test_a_class_over_torchserves_own_is_run_and_its_form_of_answers_is_absent(
    proven_image: Proven, own: Callable[..., Path]
) -> None:
    report = handled(proven_image, own(DERIVED))
    assert (report.ok, report.problems) == (True, [])
    [absent] = report.absent
    assert absent.startswith(NO_RANKING)


def test_a_function_over_an_object_of_its_own_is_checked_alike(
    proven_image: Proven, own: Callable[..., Path]
) -> None:
    function = (
        "_shapes = Shapes()\n"
        "def handle(data, context):\n"
        "    if data is None:\n"
        "        return _shapes.initialize(context)\n"
        "    return _shapes.handle(data, context)\n"
    )
    assert handled(proven_image, own(PLAIN + function)).ok
    faulty = own(PLAIN + function, "return self.model(data)", "return self.model(data) + 0.01")
    assert "gives other outputs than the checkpoint" in said(handled(proven_image, faulty))


def test_a_function_of_the_module_is_watched_as_well() -> None:
    module = ModuleType("handler")
    code = "def inference(data):\n    return data.add_(1)\n"
    exec(f"{code}def handle(data, context):\n    return inference(data)\n", vars(module))
    kept: list[torch.Tensor] = []
    assert probe.watch(SimpleNamespace(_entry_point=module.handle), module, kept)
    module.handle(torch.zeros(2), None)
    assert [value.tolist() for value in kept] == [[0, 0], [1, 1]]
    del module.inference
    assert not probe.watch(SimpleNamespace(_entry_point=module.handle), module, kept)


# Faults, seeded


def test_pixels_that_are_scaled_otherwise_than_in_training_are_named(
    proven_image: Proven, own: Callable[..., Path]
) -> None:
    root = own(DERIVED, "return torch.cat(rows)", "return torch.cat(rows) * (255 / 256)")
    first = proven_image.splits.test[0]
    assert said(handled(proven_image, root)).startswith(
        f"samples {first} … of the test split: what reaches `inference` is another tensor than "
    )


def test_pixels_that_nobody_can_see_are_caught_by_their_answers_or_absent(
    proven_image: Proven, own: Callable[..., Path]
) -> None:
    """Where `inference` is no method of its own, only what is answered can be judged."""
    unseen = PLAIN.replace("inference(", "_forward(")
    report = handled(proven_image, own(unseen))
    assert report.ok
    assert [text.partition(":")[0] for text in report.absent] == [
        "what is read of a request", "the model's outputs",
    ]  # fmt: skip
    assert "the handler has no `inference`" in report.absent[0]
    half = own(unseen, "return self.model(data)", "return self.model(data * 0.5)")
    assert "and the model's outputs say" in said(handled(proven_image, half))


@pytest.mark.parametrize(
    ("inference", "problem"),
    [
        ("self.model(data) + 0.01", "`inference` gives other outputs than the checkpoint for fl"),
        ("self.model(data) * float('nan')", "`inference` gives other outputs than the checkpo"),
        ("self.model(data.mul_(0.5))", "`inference` gives other outputs than the checkpoint for"),
        ("self.model(data)[:, :2]", "`inference` gives float32 (8, 2) for float32 (8, 1, 8, 8)"),
        ("self.model(data).argmax(1)", "`inference` gives int64 (8,) for float32 (8, 1, 8, 8)"),
    ],
)
def test_outputs_that_are_not_the_checkpoints_are_named(
    proven_image: Proven, own: Callable[..., Path], inference: str, problem: str
) -> None:
    source = DERIVED + (
        "\n    def inference(self, data):\n"
        f"        with torch.inference_mode():\n            return {inference}\n"
    )
    # Answers that cannot be told to be wrong.
    root = own(source, "data.argmax(dim=1).tolist()", "[n % 3 for n in range(len(data))]")
    assert said(handled(proven_image, root)).startswith(problem)


def test_another_model_than_the_payload_is_named(
    proven_image: Proven, own: Callable[..., Path], tmp_path: Path
) -> None:
    other = tmp_path / "other.pt"
    changed = torch.jit.load(str(proven_image.traced))
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.mul_(1.01)
    changed.save(str(other))
    root = own(PLAIN, 'payload = str(folder / context.manifest["model"]["serializedFile"])',
               f"payload = {str(other)!r}")  # fmt: skip
    assert "gives other outputs than the checkpoint" in said(handled(proven_image, root))


def test_a_list_that_reaches_inference_is_absent(
    proven_image: Proven, own: Callable[..., Path]
) -> None:
    root = own(PLAIN.replace(
        "return torch.cat([torch.from_numpy(row) for row in rows])", "return rows"
    ), "return self.model(data)",
        "return self.model(torch.cat([torch.from_numpy(row) for row in data]))")  # fmt: skip
    report = handled(proven_image, root)
    assert report.ok
    assert all("`inference` takes a list, and not a tensor" in text for text in report.absent)
    assert len(report.absent) == 2


def test_a_list_that_inference_gives_is_absent_and_what_it_takes_is_not(
    proven_image: Proven, own: Callable[..., Path]
) -> None:
    source = PLAIN.replace("return self.model(data)", "return [*self.model(data)]").replace(
        "outputs.softmax", "torch.stack(outputs).softmax"
    )
    report = handled(proven_image, own(source))
    assert report.ok
    [absent] = report.absent
    assert absent.startswith("the model's outputs: `inference` gives a list, and not a tensor")
    half = own(source, "in rows])", "in rows]) / 2")
    assert "is another tensor than training's" in said(handled(proven_image, half))


def test_rows_reach_a_handler_decoded_and_several_in_one_request_are_absent(
    proven_table: Proven, own: Callable[..., Path]
) -> None:
    """Without anything of ours: the numbers of preprocess.json are enough."""
    report = handled(proven_table, own(ROWS))
    assert (report.ok, report.problems) == (True, [])
    [absent] = report.absent
    assert absent.startswith("several rows in one request: ")
    forgotten = own(ROWS, ' + self.spec["target_mean"]', "")
    assert "and the model's output says" in said(handled(proven_table, forgotten))


def test_what_is_no_request_must_not_spoil_its_batch(
    proven_image: Proven, own: Callable[..., Path]
) -> None:
    root = own(PLAIN, "except BadRequest as refusal:", "except ZeroDivisionError as refusal:")
    assert said(handled(proven_image, root)).startswith("fails over a whole batch: BadRequest: ")


def test_what_is_no_request_is_the_clients_fault(
    proven_image: Proven, own: Callable[..., Path]
) -> None:
    root = own(PLAIN, "set_response_status(400, ", "set_response_status(500, ")
    assert said(handled(proven_image, root)) == (
        "a request that is none is answered with 500, not with a 4xx"
    )


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("return found", "return found[:-1]", "fails over a batch of 8 held-out samples: the "),
        ("found = []", "found = int('x')", "fails over a batch of 8 held-out samples: ValueError"),
        ("found = []", "import os; os._exit(3)", "fails over a batch of 8 held-out samples: answ"),
        ("str(i)", "str((i + 1) % 3)", "sample "),
    ],
)
def test_a_handler_that_fails_over_all_is_named(
    proven_image: Proven, own: Callable[..., Path], old: str, new: str, problem: str
) -> None:
    assert said(handled(proven_image, own(PLAIN, old, new))).startswith(problem)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import no_such_module\n" + PLAIN, "TorchServe cannot load it: ModuleNotFoundError: No"),
        (PLAIN.replace("index_to_name", "names"), "TorchServe cannot load it: FileNotFoundError"),
        ("raise SystemExit(1)\n" + PLAIN, "loading it: the handler calls sys.exit(1), which ends"),
        (PLAIN + "\nclass Other: ...\n", "TorchServe cannot load it: ValueError: Expected only"),
        ("from marwright.training import types\n" + PLAIN, "1: imports marwright.training.types"),
    ],
)
def test_a_handler_that_does_not_load_is_refused(
    proven_image: Proven, own: Callable[..., Path], source: str, problem: str
) -> None:
    with pytest.raises(PackError) as refusal:
        handled(proven_image, own(source))
    assert str(refusal.value).removeprefix("handlers/strange.py:").lstrip().startswith(problem)


def test_without_torchserve_a_sentence_says_what_to_install(
    proven_image: Proven, own: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "ts" else found(name, *more),
    )
    with pytest.raises(
        PackError, match=r'^handlers/strange\.py: .*pip install "marwright\[serve]"'
    ):
        handled(proven_image, own(DERIVED))


# The archive


def packed(made: Proven, root: Path, folder: Path) -> Path:
    recipe = recipe_of(made)
    golden = golden_members(
        made.model, made.meta, made.splits, recipe, root, handler_options(recipe),
        traced=made.traced, atol=ATOL, rtol=RTOL,
    )  # fmt: skip
    mar = folder / f"{recipe.name}.mar"
    pack_proven(
        recipe, made.traced, parity_report(), answers_report(), made.meta, golden,
        root=root, target=mar,
    )  # fmt: skip
    return mar


@pytest.mark.filterwarnings("ignore:unclosed file .*/ts/:ResourceWarning")
@pytest.mark.parametrize(
    "source",
    [
        PLAIN,
        PLAIN.replace("found.append(next(answers))",
                      "found.append(json.dumps(next(answers)).encode())"),
        DERIVED,
    ],
    ids=["dicts", "bytes", "derived, and texts"],
)  # fmt: skip
def test_golden_answers_are_those_of_handle_and_are_met_again(
    proven_image: Proven, own: Callable[..., Path], tmp_path: Path, source: str
) -> None:
    mar = packed(proven_image, own(source), tmp_path)
    members = members_of(mar)
    index = from_json(members[GOLDEN_INDEX], GoldenIndex)
    assert index.entry == "handle"
    assert b'"handler": "handlers.strange"' in members["MAR-INF/MANIFEST.json"]
    assert "index_to_name.json" in members
    report = verify(mar)
    assert (report.problems, report.golden_samples, report.proven) == ([], 4, True)
    [answer] = run(mar, [(members[index.samples[0].request], index.samples[0].content_type)])
    assert answer.status == 200
    first = index.samples[0].answer
    assert answer.body == (first.encode() if isinstance(first, str) else answer.body)


def test_changes_of_an_archive_are_noticed_by_its_golden_answers(
    proven_image: Proven, own: Callable[..., Path], tmp_path: Path
) -> None:
    mar = packed(proven_image, own(DERIVED), tmp_path)
    members = members_of(mar)
    handler = members["handlers/strange.py"].decode()
    weights = torch.jit.load(str(proven_image.traced))
    with torch.no_grad():
        for parameter in weights.parameters():
            parameter.mul_(1.01)
    other = tmp_path / "other.pt"
    weights.save(str(other))
    changes = {
        "the answer is ": {"handlers/strange.py": handler.replace("argmax", "argmin").encode()},
        "the payload's output is not the checkpoint's": {"model.pt": other.read_bytes()},
        "golden samples in one batch: the handler fails": {
            "handlers/strange.py": handler.replace("except BadRequest", "except OSError").encode()
        },
    }  # fmt: skip
    for problem, change in changes.items():
        found = verify(rewrite(mar, tmp_path / "changed.mar", change, proven=True)).problems
        assert any(problem in line for line in found), found


def test_outputs_are_compared_where_the_tensor_is_none_of_trainings(
    proven_image: Proven, own: Callable[..., Path]
) -> None:
    """Three views of an image, and the mean of what comes of them."""
    root = own(
        PLAIN.replace("self.inference(self.preprocess(data))",
                      "self.inference(self.preprocess(data).repeat(3, 1, 1, 1))"),
        "for row in outputs.softmax", "for row in outputs.unflatten(0, (3, -1)).mean(0).softmax",
    )  # fmt: skip
    report = handled(proven_image, root)
    assert report.ok
    [absent] = report.absent
    assert absent.startswith("what is read of a request: `inference` takes [(24, 1, 8, 8)] where")
