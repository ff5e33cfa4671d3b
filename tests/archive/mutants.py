"""Ways to change a proven archive so that its digests fit again: only running it can tell."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marwright.archive.types import GOLDEN, GOLDEN_INDEX, GOLDEN_TENSORS
from tests.archive.tiny import edited, edited_json, edited_manifest, members_of, rewrite

if TYPE_CHECKING:
    from tests.archive.proven import Proven

CONFIG, HANDLER = "model-config.yaml", "marwright/runtime/classify_image.py"
SAMPLES = [f"{GOLDEN}/{number}.request" for number in range(4)]

# What is said of a golden sample at each stage, in the order of the stages.
STAGES = {
    "tensor": "preprocessing gives another tensor than training's",
    "output": "the payload's output is not the checkpoint's",
    "answer": "postprocessing makes ",
    "response": "the answer is ",
}

Changes = dict[str, bytes | None]
Mutation = Callable[["Proven"], Changes]
MUTANTS: dict[str, Mutation] = {}


def mutant(function: Mutation) -> Mutation:
    """Register a way to change an archive of an image classifier."""
    MUTANTS[function.__name__] = function
    return function


def mutate(made: Proven, name: str, folder: Path) -> Path:
    """Write the archive changed in the named way, with a proof that fits."""
    return rewrite(made.mar, folder / f"{name}.mar", MUTANTS[name](made), proven=True)


def stages(problems: list[str]) -> dict[str, set[str]]:
    """Return the stages that were found wrong, by golden sample."""
    found: dict[str, set[str]] = {}
    for problem in problems:
        sample, _, said = problem.partition(": ")
        wrong = [stage for stage, text in STAGES.items() if said.startswith(text)]
        assert len(wrong) == 1, problem
        found.setdefault(sample, set()).add(wrong[0])
    return found


def assert_caught(problems: list[str], stage: str, samples: list[str]) -> None:
    """Hold that the samples were found wrong at this stage, and at none before it."""
    found = stages(problems)
    assert sorted(found) == samples
    order = list(STAGES)
    for wrong in found.values():
        assert min(map(order.index, wrong)) == order.index(stage)


@mutant
def healthy(made: Proven) -> Changes:
    return {}


@mutant
def weight_nudged(made: Proven) -> Changes:
    import torch

    traced = torch.jit.load(str(made.traced))
    with torch.no_grad():
        # A bias, so that it shows in every output.
        list(traced.parameters())[-1][0] += 0.01
    changed = made.traced.with_name("nudged.pt")
    traced.save(str(changed))
    return {"model.pt": changed.read_bytes()}


@mutant
def labels_rotated(made: Proven) -> Changes:
    labels = json.loads(members_of(made.mar)["labels.json"])
    return {"labels.json": json.dumps(labels[1:] + labels[:1]).encode()}


@mutant
def label_dropped(made: Proven) -> Changes:
    return {"labels.json": b'["left"]'}


@mutant
def mean_changed(made: Proven) -> Changes:
    mean = json.loads(members_of(made.mar)["preprocess.json"])["mean"]
    return {**edited_json(made.mar, "preprocess.json", mean=[mean[0] + 1e-4])}


@mutant
def top_k_changed(made: Proven) -> Changes:
    return {**edited(made.mar, CONFIG, "top_k: 2", "top_k: 3")}


def changed_golden(made: Proven, **values: Any) -> Changes:
    """Change the first golden sample's record."""
    samples = json.loads(members_of(made.mar)[GOLDEN_INDEX])["samples"]
    samples[0] = {**samples[0], **values}
    return {**edited_json(made.mar, GOLDEN_INDEX, samples=samples)}


@mutant
def golden_answer_altered(made: Proven) -> Changes:
    answer = json.loads(members_of(made.mar)[GOLDEN_INDEX])["samples"][0]["answer"]
    answer["predictions"][0]["probability"] -= 1e-5
    return changed_golden(made, answer=answer)


@mutant
def golden_request_swapped(made: Proven) -> Changes:
    return changed_golden(made, request=f"{GOLDEN}/1.request")


@mutant
def golden_output_altered(made: Proven) -> Changes:
    from safetensors.torch import load, save

    tensors = load(made.golden[GOLDEN_TENSORS])
    tensors["output.0"][0, 0] += 0.01
    return {GOLDEN_TENSORS: save(tensors)}


def handler_with(made: Proven, code: str, name: str = HANDLER) -> Changes:
    """Add code to the end of a packed source file, whatever is in it."""
    return {name: members_of(made.mar)[name] + b"\n\n" + code.encode()}


@mutant
def order_reversed(made: Proven) -> Changes:
    return handler_with(made, "service.answer = lambda out, loaded: ranked_labels(-out, loaded)\n")


@mutant
def preprocessing_edited(made: Proven) -> Changes:
    code = "exact = image_array\ndef image_array(i, spec):\n    return exact(i, spec) * 0.999\n"
    return handler_with(made, code, "marwright/runtime/preprocess.py")


@mutant
def responses_altered(made: Proven) -> Changes:
    """Only what goes over the wire is wrong: each stage alone gives the right thing."""
    return handler_with(
        made,
        "def handle(data, context):\n"
        "    answers = service.handle(data, context)\n"
        "    return answers and [b'{}' for _ in answers]\n",
    )


@mutant
def status_altered(made: Proven) -> Changes:
    return handler_with(
        made,
        "def handle(data, context):\n"
        "    if data is None:\n"
        "        return service.handle(data, context)\n"
        "    context.set_response_status(500, 'Error', 0)\n"
        '    return [b\'{"error": "too much to do"}\']\n',
    )


@mutant
def imports_the_project(made: Proven) -> Changes:
    return handler_with(made, "import marwright.training.data\n")


@mutant
def lacks_a_file_of_the_runtime(made: Proven) -> Changes:
    return {"marwright/runtime/read.py": None}


@mutant
def lacks_the_init_of_the_package(made: Proven) -> Changes:
    return {"marwright/__init__.py": None}


@mutant
def imports_what_nobody_has(made: Proven) -> Changes:
    return handler_with(made, "import no_such_module\n")


@mutant
def replaced_by_a_stock_handler(made: Proven) -> Changes:
    """On an ImportError, TorchServe takes its own handler of that name, if it has one."""
    changes = edited_manifest(made.mar, handler="base_handler")
    return {"base_handler.py": b"import no_such_module\n", **changes}


@mutant
def handler_of_the_environment(made: Proven) -> Changes:
    """A module that the server happens to have, with a function that takes what it is given."""
    return {**edited_manifest(made.mar, handler="operator:is_")}


@mutant
def handler_fails_to_load(made: Proven) -> Changes:
    code = "def handle(data, context):\n    raise MemoryError('weights too large')\n"
    return handler_with(made, code)


@mutant
def handler_is_noisy(made: Proven) -> Changes:
    """What it writes to standard output is not for the probe to say."""
    return handler_with(
        made,
        "import os, atexit\n"
        "os.write(1, b'\\xff\\xfe')\nos.write(2, b'\\xff\\xfe')\n"
        "print('no newline', end='')\n"
        "atexit.register(print, '{}')\n",
    )


@mutant
def payload_is_no_module(made: Proven) -> Changes:
    return {"model.pt": b"not a TorchScript file"}
