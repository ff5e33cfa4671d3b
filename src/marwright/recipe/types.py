"""What a recipe may say: the types of `archive/<name>.toml`, one a section.

Unknown keys, wrong types and values out of range are refused by these types; the JSON Schema
for editors is generated from them. `recipe/files.py` adds what needs the files around it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from marwright.project import ENGINES_NAME, OWN_NAME, PACKAGE, Named, named
from marwright.recipe.labels import SUFFIXES, file_of
from marwright.runtime.spec import ImageFit, Interpolation

Positive = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(gt=0, lt=0.5)]
Fraction = Annotated[float, Meta(ge=0, lt=1)]
PositiveFloat = Annotated[float, Meta(gt=0)]
NonNegativeFloat = Annotated[float, Meta(ge=0)]
SizeRange = Annotated[tuple[Positive, Positive], Meta(description="least and most")]
# A model's name.
NAME_PATTERN = r"^[a-z][a-z0-9_]*$"
FoundByForm = Annotated[str, Meta(pattern=rf"^({ENGINES_NAME}|{OWN_NAME})$")]
_FACTORY_PATTERN = rf"^({ENGINES_NAME}|torchvision/[a-z0-9_]+|{OWN_NAME})$"
# Files that weights to start from are read of.
WEIGHTS = (".safetensors", ".pt", ".pth")
# What `init_labels` may say instead of naming labels.
INIT_LABELS = ("same", "other")
Param = bool | int | float | str

# Of the parity gate; docs/adr/0009-calibrated-tolerance.md derives them from measurements.
DEFAULT_K = 8.0
DEFAULT_K_BF16 = 2.0
DEFAULT_FLOOR = 1e-6

Task = Literal["classification", "regression"]
Precision = Literal["fp32", "bf16", "int8"]
# What `minimum_metric` speaks of, and what tables show.
MAIN_METRIC: dict[str, str] = {"classification": "accuracy", "regression": "r2"}
# What each kind of sample can be asked for; a handler answers each of them.
_TASKS_OF: dict[str, tuple[Task, ...]] = {
    "image": ("classification",),
    "table": ("classification", "regression"),
    "text": ("classification",),
}


# What a study calls the recipe as it is, and what it sets itself.
OWN = "as declared"
_STUDYS_OWN = (
    "fit.seed", "fit.minimum_metric", "fit.processes", "train.seed", "train.minimum_metric",
)  # fmt: skip
# What training reads of a recipe. `training` is the section that says who trains: `[fit]` or
# `[train]`, as the recipe has it.
TRAINED_SECTIONS = ("task", "data", "preprocess", "augment", "model", "transfer", "training")


def _about(text: str) -> Meta:
    return Meta(description=text)


class Data(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[data]`: which samples, and how they are split."""

    dataset: Annotated[
        FoundByForm,
        _about(
            "One of the engine's data sets, or a file of your own with a `load` function, as in "
            "train/digits.py, train/digits.py:load or package.module:load"
        ),
    ]
    files: Annotated[
        list[str],
        _about("Files or folders that it reads, from the project's root; given to `load` as paths"),
    ] = []
    params: Annotated[
        dict[str, Param | list[Param]], _about("Keyword arguments of the data set's `load`")
    ] = {}
    faulty: Annotated[
        Literal["refuse", "skip"],
        _about(
            "What becomes of samples that cannot be read, or hold NaN, infinity or a label that "
            "there is not: training stops and names them, or goes on without them and counts them"
        ),
    ] = "refuse"
    labels: Annotated[
        str | list[str],
        _about(
            "Labels in the order of the outputs: a list, or a file of the project as "
            "index_to_name.json; without it, in the data set's own order"
        ),
    ] = ""
    near_duplicates: Annotated[
        Literal["report", "refuse"],
        _about("What becomes of held-out samples that nearly equal a training sample"),
    ] = "report"
    validation: Annotated[Share, _about("Share of the samples that selects the weights")] = 0.15
    test: Annotated[Share, _about("Share that is only looked at once, in the end")] = 0.2
    split_salt: Annotated[
        str,
        _about("Goes into the hash that decides each sample's split; another salt, another split"),
    ] = ""

    def __post_init__(self) -> None:
        if isinstance(self.labels, str) and self.labels and not file_of(self.labels):
            raise ValueError(
                f'labels = "{self.labels}": it is a list, or a {" or ".join(SUFFIXES)} file'
            )

    @property
    def read_files(self) -> tuple[str, ...]:
        """What its samples are read from, from the project's root."""
        return (*self.files, *([file] if (file := file_of(self.labels)) else []))

    @property
    def file(self) -> str:
        """The source file that loads it, as `marwright.project` has it."""
        return self.load.file

    @property
    def load(self) -> Named:
        """The function that loads it."""
        return named(self.dataset, "training/datasets", "load")


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
    """`[preprocess] kind = "table"`: rows of columns, scaled by the training split.

    A column of categories becomes one feature a category. What is missing is filled in.
    """

    scale: Annotated[
        Literal["standard", "robust", "none"],
        _about("standard: to mean 0, deviation 1; robust: median 0, quartiles 1 apart"),
    ] = "standard"
    scale_target: Annotated[
        Literal["standard", "none"], _about("A value to predict; answers are in its own units")
    ] = "standard"


class TextPreprocess(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="text"
):
    """`[preprocess] kind = "text"`: a text becomes the numbers of its bytes in UTF-8.

    Each is the byte's value plus 1; 0 fills up the shorter texts of a batch.
    """

    max_bytes: Annotated[
        int, Meta(ge=4), _about("What is beyond is not read; one character takes up to 4")
    ] = 256


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[model]`: which network."""

    factory: Annotated[
        str,
        Meta(pattern=_FACTORY_PATTERN),
        _about(
            "One of the engine's networks, torchvision/<architecture>, or a file of your own with "
            "a `build` function, as in train/net.py, train/net.py:build or package.module:build"
        ),
    ]
    params: Annotated[dict[str, Param], _about("Keyword arguments of the factory's `build`")] = {}
    weights: Annotated[
        str, _about("Pretrained weights of a torchvision architecture, as in IMAGENET1K_V1")
    ] = ""
    init_from: Annotated[
        str,
        _about(
            "recipe:<name> starts from that model's weights; or a file of weights from the "
            "project's root, .safetensors, .pt or .pth"
        ),
    ] = ""
    init_labels: Annotated[
        str | list[str],
        _about(
            "What the head of a file in init_from answers, which no such file says: its labels in "
            "the order of its outputs, as a list or a file; same: those of [data] labels, or of a "
            "regression the same target, scaled alike; other: its head is not taken"
        ),
    ] = ""

    def __post_init__(self) -> None:
        if self.weights and self.init_from:
            raise ValueError("weights and init_from both say what to start from: keep one")
        kind, colon, name = self.init_from.partition(":")
        if colon and (kind != "recipe" or not re.fullmatch(NAME_PATTERN, name)):
            raise ValueError(f'init_from = "{self.init_from}": it is recipe:<name>, or a file')
        if self.init_from and not colon and Path(self.init_from).suffix not in WEIGHTS:
            raise ValueError(
                f'init_from = "{self.init_from}": weights are in {", ".join(WEIGHTS)} files'
            )
        if self.init_labels != "" and (not self.init_from or colon):
            raise ValueError("init_labels are of a file in init_from: remove it")
        if isinstance(self.init_labels, str) and not (
            self.init_labels in ("", *INIT_LABELS) or file_of(self.init_labels)
        ):
            raise ValueError(
                f'init_labels = "{self.init_labels}": it is {", ".join(INIT_LABELS)}, a list, or a '
                f"{' or '.join(SUFFIXES)} file"
            )
        if "architecture" in self.params and self._architecture:
            raise ValueError(f"params: the factory {self.factory} names the architecture")
        if self.weights and not self._architecture:
            raise ValueError("weights are of torchvision's architectures: use init_from")

    @property
    def file(self) -> str:
        """The source file that builds it, as `marwright.project` has it."""
        return self.build.file

    @property
    def build(self) -> Named:
        """The function that builds it."""
        kind = "torchvision" if self._architecture else self.factory
        return named(kind, "training/models", "build")

    @property
    def _architecture(self) -> str:
        kind, _, architecture = self.factory.partition("/")
        return architecture if kind == "torchvision" and ".py" not in architecture else ""

    @property
    def arguments(self) -> dict[str, Param]:
        """What its `build` is given by name, beside the shape and the outputs."""
        own = {"architecture": self._architecture} if self._architecture else {}
        return {**self.params, **own}

    @property
    def parent(self) -> str | None:
        """The recipe whose weights this model starts from, if it does."""
        kind, _, name = self.init_from.partition(":")
        return name if kind == "recipe" else None


class Augment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[augment]`: random changes of training images, in front of the evaluation transform."""

    shift: Annotated[
        int, Meta(ge=0), _about("Move an image by up to this many pixels; its edges are repeated")
    ] = 0
    flip: Annotated[bool, _about("Mirror every other image, left to right")] = False
    crop: Annotated[
        float,
        Meta(gt=0, le=1),
        _about("Cut out a part of at least this share of the image's area; 1 cuts nothing"),
    ] = 1.0
    rotate: Annotated[
        float, Meta(ge=0, le=180), _about("Turn an image by up to this many degrees")
    ] = 0.0
    color: Annotated[
        Fraction, _about("Change brightness, contrast and saturation by up to this factor")
    ] = 0.0
    erase: Annotated[Fraction, _about("The share of images of which a rectangle is erased")] = 0.0
    mixup: Annotated[
        NonNegativeFloat, _about("Blend images and labels; the α of the Beta distribution")
    ] = 0.0
    cutmix: Annotated[
        NonNegativeFloat,
        _about("Paste patches, mix labels by area; the α of the Beta distribution"),
    ] = 0.0


class Transfer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[transfer]`: what trains of a network that has learned before, and how fast.

    A network's stages are its parts by depth; the last one is the head. `make summary` shows them.
    """

    freeze: Annotated[Literal["none", "body"], _about("body: at first only the head trains")] = (
        "none"
    )
    unfreeze_every: Annotated[
        int, Meta(ge=0), _about("Epochs after which the next stage trains too; 0: never")
    ] = 0
    batch_norm: Annotated[
        Literal["train", "frozen"],
        _about("frozen: every batch norm keeps its statistics; those of frozen stages always do"),
    ] = "train"
    body_rate: Annotated[
        float, Meta(gt=0, le=1), _about("Learning rate of the body, as a part of the head's")
    ] = 1.0
    layer_decay: Annotated[
        float,
        Meta(gt=0, le=1),
        _about("Factor of the learning rate from each stage to the one below"),
    ] = 1.0

    def __post_init__(self) -> None:
        if self.unfreeze_every and self.freeze == "none":
            raise ValueError('unfreeze_every has nothing to unfreeze: set freeze = "body"')


MinimumMetric = Annotated[
    float | Literal["any"] | None,
    _about(
        "The build stops when the test metric is below this; in any case when it is not above its "
        "baseline, unless this is any"
    ),
]


class Fit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[fit]`: how the weights are found."""

    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 0
    threads: Annotated[
        Positive, _about("CPU threads; they change the last bits of the weights")
    ] = 1
    workers: Annotated[
        int, Meta(ge=0), _about("Processes that load images which are too many to be kept decoded")
    ] = 0
    processes: Annotated[
        Positive,
        _about("Processes that train together, on one machine or more, each on a part of a batch"),
    ] = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    epochs: Annotated[Positive, _about("At most this many; early stopping may end sooner")] = 50
    batch_size: Annotated[
        int, Meta(ge=2), _about("Samples a step of the optimizer, over all parts and processes")
    ] = 32
    accumulate: Annotated[
        Positive, _about("Parts that a batch goes through the network in; gradients add up")
    ] = 1
    out_of_memory: Annotated[
        Literal["stop", "halve"],
        _about("halve: batches go through in twice as many parts, for as long as it takes"),
    ] = "stop"
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"],
        _about("Of the forward pass while training; fp16 scales the loss and needs a GPU"),
    ] = "fp32"
    compile: Annotated[bool, _about("Train through torch.compile")] = False
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    momentum: Annotated[Fraction, _about("Of SGD")] = 0.9
    learning_rate: PositiveFloat = 1e-3
    weight_decay: Annotated[
        NonNegativeFloat, _about("Of weights, not of norms, biases, nor what parametrisations keep")
    ] = 0.01
    schedule: Annotated[
        Literal["cosine", "one_cycle", "step", "plateau", "constant"],
        _about("Of the learning rate"),
    ] = "cosine"
    warmup: Annotated[
        NonNegativeFloat, _about("Epochs in which the learning rate rises from a hundredth")
    ] = 0.0
    step_epochs: Annotated[
        Positive,
        _about("step: epochs between two steps; plateau: epochs without a better validation loss"),
    ] = 10
    step_factor: Annotated[
        float, Meta(gt=0, lt=1), _about("What a step multiplies the learning rate by")
    ] = 0.1
    label_smoothing: Annotated[Fraction, _about("Of cross entropy")] = 0.0
    clip: Annotated[NonNegativeFloat, _about("The largest norm of the gradient; 0: any")] = 0.0
    ema: Annotated[
        Fraction, _about("Decay of a moving average of the weights, which is what is kept; 0: none")
    ] = 0.0
    imbalance: Annotated[
        Literal["none", "sampler", "loss"],
        _about("sampler: rare classes are drawn more often; loss: they weigh more"),
    ] = "none"
    patience: Annotated[
        Positive, _about("Epochs without a better validation loss before training stops")
    ] = 10
    minimum_metric: MinimumMetric = None

    def __post_init__(self) -> None:
        if self.accumulate > self.batch_size:
            raise ValueError(
                f"accumulate = {self.accumulate} parts of a batch of {self.batch_size}"
            )
        if self.batch_size % self.processes:
            raise ValueError(
                f"batch_size = {self.batch_size} cannot be divided among {self.processes} processes"
            )
        if self.processes > 1 and self.out_of_memory == "halve":
            raise ValueError(
                'out_of_memory = "halve" is for one process: the others would wait for it'
            )
        if self.warmup and self.schedule == "one_cycle":
            raise ValueError("one_cycle warms up by itself: remove warmup")
        if self.schedule == "plateau" and self.patience <= self.step_epochs:
            raise ValueError(
                f"patience = {self.patience} ends training before a plateau of step_epochs = "
                f"{self.step_epochs} lowers the rate"
            )
        if self.warmup >= self.epochs:
            raise ValueError(f"warmup = {self.warmup:g} leaves nothing of {self.epochs} epochs")


class Script(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[train]`: a training script of your own, in place of `[fit]`."""

    script: Annotated[
        str,
        Meta(pattern=rf"^({OWN_NAME})$"),
        _about(
            "A file of your own with a `train(job)` function, as in train/digits.py, "
            "train/digits.py:train or package.module:train"
        ),
    ]
    params: Annotated[
        dict[str, Param | list[Param]], _about("What the script reads as `job.params`")
    ] = {}
    seed: Annotated[int, Meta(ge=0, lt=2**32), _about("Of all chance before `train` begins")] = 0
    threads: Annotated[
        Positive, _about("CPU threads; they change the last bits of the weights")
    ] = 1
    minimum_metric: MinimumMetric = None

    @property
    def device(self) -> Literal["auto"]:
        """A GPU where there is one."""
        return "auto"

    @property
    def run(self) -> Named:
        """The function that trains."""
        return named(self.script, "", "train")


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
    params: Annotated[
        dict[str, Param], _about("What a handler of your own reads as `loaded.options`")
    ] = {}

    def __post_init__(self) -> None:
        if taken := {"threads", "top_k", "decimals"} & self.params.keys():
            raise ValueError(f"params: {min(taken)} is a key of the recipe itself: rename it")


class Serve(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[serve]`: the handler, and TorchServe's settings for this model."""

    handler: Annotated[
        FoundByForm,
        _about(
            "One of the engine's handlers, or a file of your own, as handlers/digits.py, with "
            "`service` and `handle`, or a class of TorchServe's own style"
        ),
    ]
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

    @property
    def file(self) -> str:
        """The source file of the handler, as `marwright.project` has it."""
        return named(self.handler, "runtime", "handle").file


class Study(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[study]`: what `make study` compares, over several seeds; no build reads it."""

    seeds: Annotated[Positive, _about("Trainings of the recipe, and of each variant")] = 5
    variants: Annotated[
        dict[str, dict[str, Param | list[Param] | dict[str, Param | list[Param]]]],
        _about('Other settings by name, as in scratch = { "model.init_from" = "" }'),
    ] = {}

    def __post_init__(self) -> None:
        if OWN in self.variants:
            raise ValueError(f'the recipe itself is called "{OWN}": give that variant another name')
        for variant, settings in self.variants.items():
            for name, value in settings.items():
                section = name.partition(".")[0]
                if name in _STUDYS_OWN:
                    raise ValueError(f'variant "{variant}": {name} is set by the study itself')
                sections = [*TRAINED_SECTIONS[:-1], "fit", "train"]
                if section not in sections:
                    raise ValueError(
                        f'variant "{variant}": {name}: training reads of {", ".join(sections)}'
                    )
                if isinstance(value, dict) and name in sections:
                    raise ValueError(
                        f'variant "{variant}": write "{name}.{next(iter(value), "…")}" = …, in '
                        "quotes"
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
    preprocess: ImagePreprocess | TablePreprocess | TextPreprocess
    augment: Augment = Augment()
    model: Model
    transfer: Transfer = Transfer()
    fit: Fit = Fit()
    train: Script | None = None
    export: Export = Export()
    parity: Parity = Parity()
    postprocess: Postprocess = Postprocess()
    serve: Serve
    study: Study = Study()

    def __post_init__(self) -> None:
        kind = str(self.preprocess.__struct_config__.tag)
        if self.task not in _TASKS_OF[kind]:
            fitting = " or ".join(
                f'"{known}"' for known, tasks in _TASKS_OF.items() if self.task in tasks
            )
            raise ValueError(
                f'task = "{self.task}" goes with [preprocess] kind = {fitting}, not with "{kind}"'
            )
        if self.data.labels != "" and self.task != "classification":
            raise ValueError("[data] labels are of a classification: remove it")
        named = self.model.init_labels not in ("", *INIT_LABELS)
        if named and self.task != "classification":
            raise ValueError(
                '[model] init_labels of a regression is "same" or "other", because it has no labels'
            )
        if (
            self.model.init_labels == "same"
            and self.task == "classification"
            and self.data.labels == ""
        ):
            raise ValueError(
                '[model] init_labels = "same" needs [data] labels, which say in which order they '
                "are"
            )
        if self.train is not None:
            for section, value, default in (
                ("fit", self.fit, Fit()),
                ("augment", self.augment, Augment()),
                ("transfer", self.transfer, Transfer()),
            ):
                if value != default:
                    raise ValueError(
                        f"[{section}] is of the engine's own training, and [train] script trains "
                        f"this model: remove [{section}], or [train]"
                    )
        if self.augment != Augment() and kind != "image":
            raise ValueError(f"[augment] changes images, and this is a {kind}: remove it")
        if self.fit.imbalance != "none" and self.task != "classification":
            raise ValueError("[fit] imbalance is of classes: remove it")
        if self.fit.label_smoothing and self.task != "classification":
            raise ValueError("[fit] label_smoothing is of classes: remove it")
        for axis, (least, most) in self.export.dynamic.items():
            if not isinstance(self.preprocess, ImagePreprocess):
                raise ValueError(
                    f"[export] dynamic is of images, and a {kind} has no such sizes: remove it"
                )
            if not least <= (size := getattr(self.preprocess, axis)) <= most:
                raise ValueError(
                    f"[export] dynamic {axis} = [{least}, {most}] does not hold [preprocess] "
                    f"{axis} = {size}"
                )

    @property
    def training(self) -> Fit | Script:
        """What says who trains it, and from which seed."""
        return self.train or self.fit

    @property
    def training_section(self) -> Literal["fit", "train"]:
        """The section that `training` is."""
        return "train" if self.train else "fit"

    @property
    def trainer(self) -> str:
        """The engine's source file that finds the weights: its loop, or what runs a script."""
        return f"{PACKAGE}training/{'script' if self.train else 'fit'}.py"

    def key(self, name: str) -> str:
        """Return the key that `training` or `training.…` stands for, as in `fit.seed`."""
        section, _, rest = name.partition(".")
        own = self.training_section if section == "training" else section
        return f"{own}.{rest}" if rest else own

    @property
    def dynamic_axes(self) -> dict[int, tuple[str, int, int]]:
        """The axes of a sample that vary: name, least and most.

        Of an image `(channels, height, width)` those that `[export]` declares; of a text its
        length.
        """
        if isinstance(self.preprocess, TextPreprocess):
            return {0: ("length", 1, self.preprocess.max_bytes)}
        places = {"height": 1, "width": 2}
        return {places[axis]: (axis, *sizes) for axis, sizes in sorted(self.export.dynamic.items())}


# What of a recipe an archive is proof of: a study changes nothing of it.
PROVEN_SECTIONS = tuple(name for name in Recipe.__struct_fields__ if name != "study")


def canonical(value: Struct) -> Any:
    """Return a recipe or a section as plain JSON-ready values, defaults included."""
    from msgspec import to_builtins

    return to_builtins(value)


def varied(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """Return a recipe with other settings, given by their dotted names.

    Raises `msgspec.ValidationError` for what no recipe may say.
    """
    from msgspec import convert

    return convert(varied_values(recipe, settings), Recipe)


def varied_values(recipe: Recipe, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe's plain values with other settings, whatever these are.

    Raises `msgspec.ValidationError` for a name that leads through a value.
    """
    from msgspec import ValidationError

    values: dict[str, Any] = canonical(recipe)
    for name, value in settings.items():
        *sections, key = name.split(".")
        place = values
        for section in sections:
            # A section that there is not becomes a key that there is not, and is refused as such.
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ValidationError(f"{name}: {section} is no section")
        place[key] = value
    return values
