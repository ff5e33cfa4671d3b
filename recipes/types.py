"""What a recipe may say: the types of `recipes/<name>.toml`, one a section.

Unknown keys, wrong types and values out of range are refused by these types; the JSON Schema
for editors is generated from them. `recipes/load.py` adds what needs the files around it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from handlers.spec import ImageFit, Interpolation

Positive = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(gt=0, lt=0.5)]
PositiveFloat = Annotated[float, Meta(gt=0)]
NonNegativeFloat = Annotated[float, Meta(ge=0)]
SizeRange = Annotated[tuple[Positive, Positive], Meta(description="least and most")]
# A model's name, and a module's: what may stand in `train/models/<name>.py` and be imported.
NAME_PATTERN = r"^[a-z][a-z0-9_]*$"
ModuleName = Annotated[str, Meta(pattern=NAME_PATTERN)]

# Of the parity gate; docs/adr/0009-calibrated-tolerance.md derives them from measurements.
DEFAULT_K = 8.0
DEFAULT_K_BF16 = 2.0
DEFAULT_FLOOR = 1e-6

Task = Literal["classification", "regression"]
Precision = Literal["fp32", "bf16", "int8"]
# What `minimum_metric` speaks of, and what tables show.
MAIN_METRIC: dict[str, str] = {"classification": "accuracy", "regression": "r2"}
# Labels belong to images and values to rows, in `train/types.py` and in the handlers.
_KIND_OF: dict[Task, str] = {"classification": "image", "regression": "table"}


def _about(text: str) -> Meta:
    return Meta(description=text)


class Data(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[data]`: which samples, and how they are split."""

    dataset: Annotated[ModuleName, _about("A module in train/datasets/ with a `load` function")]
    files: Annotated[
        list[str],
        _about("Files or folders that it reads, from the project's root; given to `load` as paths"),
    ] = []
    validation: Annotated[Share, _about("Share of the samples that selects the weights")] = 0.15
    test: Annotated[Share, _about("Share that is only looked at once, in the end")] = 0.2
    split_salt: Annotated[
        str,
        _about("Goes into the hash that decides each sample's split; another salt, another split"),
    ] = ""


class ImagePreprocess(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="image"
):
    """`[preprocess] kind = "image"`: an image becomes a tensor of one fixed size."""

    channels: Annotated[Literal[1, 3], _about("1: grey, 3: RGB")]
    height: Positive
    width: Positive
    fit: Annotated[ImageFit, _about("How another size is met")] = "crop"
    interpolation: Interpolation = "bilinear"
    mean: Annotated[
        Literal["training"] | list[float], _about("One a channel, on pixels from 0 to 1")
    ] = "training"
    std: Annotated[
        Literal["training"] | list[PositiveFloat], _about("One a channel, on pixels from 0 to 1")
    ] = "training"

    def __post_init__(self) -> None:
        for key, value in (("mean", self.mean), ("std", self.std)):
            if isinstance(value, list) and len(value) != self.channels:
                raise ValueError(
                    f"{key} needs one value a channel: {self.channels}, not {len(value)}"
                )


class TablePreprocess(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="table"
):
    """`[preprocess] kind = "table"`: rows of numbers, standardised by the training split."""

    standardise: Annotated[bool, _about("Features to mean 0 and deviation 1")] = True
    standardise_target: Annotated[bool, _about("The target too; answers are in its own units")] = (
        True
    )


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[model]`: which network."""

    factory: Annotated[ModuleName, _about("A module in train/models/ with a `build` function")]
    params: Annotated[
        dict[str, bool | int | float | str], _about("Keyword arguments of the factory's `build`")
    ] = {}


class Fit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[fit]`: how the weights are found."""

    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 0
    threads: Annotated[
        Positive, _about("CPU threads; they change the last bits of the weights")
    ] = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    epochs: Annotated[Positive, _about("At most this many; early stopping may end sooner")] = 50
    batch_size: Annotated[int, Meta(ge=2)] = 32
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.01
    schedule: Annotated[
        Literal["cosine", "one_cycle", "constant"], _about("Of the learning rate")
    ] = "cosine"
    patience: Annotated[
        Positive, _about("Epochs without a better validation loss before training stops")
    ] = 10
    shift: Annotated[
        int, Meta(ge=0), _about("Augmentation: move training images by up to this many pixels")
    ] = 0
    minimum_metric: Annotated[
        float | None, _about("The build stops when the test metric is below this")
    ] = None


class Export(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[export]`: what is made of the checkpoint."""

    opset: Annotated[int, Meta(ge=18, le=23), _about("The ONNX operator set")] = 20
    precision: Annotated[
        Precision,
        _about(
            "bf16: the traced module computes in bfloat16; int8: the ONNX file is quantised, "
            "calibrated on training samples"
        ),
    ] = "fp32"
    dynamic: Annotated[
        dict[Literal["height", "width"], SizeRange],
        _about("Axes of an image that may vary, each as [least, most] pixels"),
    ] = {}

    def __post_init__(self) -> None:
        for axis, (least, most) in self.dynamic.items():
            if least >= most:
                raise ValueError(f"dynamic {axis} = [{least}, {most}]: the least comes first")

    @property
    def dynamic_axes(self) -> dict[int, tuple[str, int, int]]:
        """The axes of a sample `(channels, height, width)` that vary: name, least and most."""
        places = {"height": 1, "width": 2}
        return {places[axis]: (axis, *sizes) for axis, sizes in sorted(self.dynamic.items())}


class Parity(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[parity]`: how closely the exports must agree with the checkpoint, and how hard to look."""

    k: Annotated[
        PositiveFloat,
        _about("The error of an export, at most, in errors of eager torch (against float64)"),
    ] = DEFAULT_K
    k_bf16: Annotated[
        PositiveFloat,
        _about("The same of a traced module in bfloat16, in errors of eager torch in bfloat16"),
    ] = DEFAULT_K_BF16
    floor: Annotated[
        PositiveFloat, _about("What is allowed on top, as a part of the outputs' size")
    ] = DEFAULT_FLOOR
    reason: Annotated[
        str, _about("Why a tolerance is looser than the default; required, and reported")
    ] = ""
    samples: Annotated[
        int,
        Meta(ge=2),
        _about("Held-out samples at most; large models get fewer, by their FLOPs"),
    ] = 1024
    search: Annotated[
        int, Meta(ge=0), _about("Real samples that the worst-case search starts from; 0 is none")
    ] = 16
    seed: Annotated[int, Meta(ge=0, lt=2**32), _about("Of drawn inputs and of the search")] = 0
    max_metric_drop: Annotated[
        NonNegativeFloat,
        _about("What bf16 or int8 may cost of the test metric, in points (hundredths)"),
    ] = 0.5

    def __post_init__(self) -> None:
        defaults = {"k": DEFAULT_K, "k_bf16": DEFAULT_K_BF16, "floor": DEFAULT_FLOOR}
        looser = [
            f"{key} = {getattr(self, key):g} is looser than {default:g}"
            for key, default in defaults.items()
            if getattr(self, key) > default
        ]
        if looser and not self.reason.strip():
            raise ValueError(f"{', '.join(looser)}: say why in reason")


class Postprocess(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[postprocess]`: what the handler does with the outputs."""

    top_k: Annotated[Positive, _about("Labels in an answer (classification)")] = 5
    decimals: Annotated[
        int, Meta(ge=0, le=12), _about("Of the values in an answer (regression)")
    ] = 4


class Serve(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[serve]`: the handler, and TorchServe's settings for this model."""

    handler: Annotated[ModuleName, _about("A module in handlers/ with `service` and `handle`")]
    min_workers: Positive = 1
    max_workers: Positive = 1
    threads: Annotated[Positive, _about("CPU threads of each worker")] = 1
    batch_size: Annotated[Positive, _about("Requests that go through the model together")] = 8
    max_batch_delay_ms: Annotated[
        Positive, _about("How long a request may wait for neighbours; TorchServe reads 0 as 100")
    ] = 10
    response_timeout_s: Positive = 30
    startup_timeout_s: Positive = 120
    max_retry_timeout_s: Annotated[
        Positive, _about("How long a worker that cannot load is retried; requests hang meanwhile")
    ] = 30

    def __post_init__(self) -> None:
        if self.max_workers < self.min_workers:
            raise ValueError(
                f"max_workers = {self.max_workers} is less than min_workers = {self.min_workers}"
            )


class Recipe(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model, declared. `name` is the file's stem, never a key of the file."""

    name: Annotated[str, Meta(pattern=NAME_PATTERN)]
    version: Annotated[
        str, Meta(pattern=r"^[0-9]+(\.[0-9]+)*$"), _about("The model's version at the server")
    ]
    task: Task
    description: Annotated[str, _about("One line for people")] = ""
    data: Data
    preprocess: ImagePreprocess | TablePreprocess
    model: Model
    fit: Fit = Fit()
    export: Export = Export()
    parity: Parity = Parity()
    postprocess: Postprocess = Postprocess()
    serve: Serve

    def __post_init__(self) -> None:
        kind = "image" if isinstance(self.preprocess, ImagePreprocess) else "table"
        if kind != _KIND_OF[self.task]:
            raise ValueError(
                f'task = "{self.task}" goes with [preprocess] kind = "{_KIND_OF[self.task]}", '
                f'not with "{kind}"'
            )
        if self.fit.shift and kind != "image":
            raise ValueError("[fit] shift moves images, and a table has none: remove it")
        for axis, (least, most) in self.export.dynamic.items():
            if not isinstance(self.preprocess, ImagePreprocess):
                raise ValueError(
                    "[export] dynamic is of images, and a table has no sizes: remove it"
                )
            if not least <= (size := getattr(self.preprocess, axis)) <= most:
                raise ValueError(
                    f"[export] dynamic {axis} = [{least}, {most}] does not hold [preprocess] "
                    f"{axis} = {size}"
                )


def canonical(value: Struct) -> Any:
    """Return a recipe or a section as plain JSON-ready values, defaults included."""
    from msgspec import to_builtins

    return to_builtins(value)
