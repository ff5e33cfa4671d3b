"""What a model starts from: what fits is taken, what does not is named, nothing is run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from marwright.recipe.errors import TrainError
from marwright.runtime.spec import ImageSpec
from marwright.training.models.torchvision import build
from marwright.training.start import Source, from_file, from_torchvision, load_start
from tests.training.conftest import image_recipe

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("calm_torch")]

SPEC = ImageSpec(
    channels=3, height=32, width=32, fit="crop", interpolation="bilinear",
    mean=(0.485, 0.456, 0.406), std=(0.2, 0.224, 0.225),
)  # fmt: skip

AB = ("a", "b")


def network(outputs: int = 2, channels: int = 3) -> nn.Module:
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.Flatten(), nn.Linear(4, outputs))


def test_all_of_equal_weights_is_taken() -> None:
    source, target = network(), network()
    start = load_start(
        target, Source(name="here", weights=source.state_dict(), answers=AB), ["a", "b"]
    )
    assert start.loaded == ["0.bias", "0.weight", "2.bias", "2.weight"]
    assert (start.skipped, start.initialised, start.source) == ({}, [], "here")
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value)


def test_the_head_of_other_labels_stays_random() -> None:
    target = network()
    before = target.state_dict()["2.weight"].clone()
    weights = network().state_dict()
    start = load_start(target, Source(name="x", weights=weights, answers=("c", "d")), ["a", "b"])
    assert start.skipped == dict.fromkeys(("2.bias", "2.weight"), "the head of other labels, as c")
    assert start.initialised == ["2.bias", "2.weight"]
    assert torch.equal(target.state_dict()["2.weight"], before)
    same = load_start(target, Source(name="x", weights=weights, answers=("a", "b")), ["a", "b"])
    assert same.skipped == {}


def test_what_has_another_shape_or_no_place_is_named() -> None:
    weights = {**network(outputs=5).state_dict(), "extra": torch.zeros(1)}
    start = load_start(network(), Source(name="x", weights=weights, answers=AB), AB)
    assert start.skipped == {
        "2.bias": "has shape (5,), not (2,)",
        "2.weight": "has shape (5, 4), not (2, 4)",
        "extra": "not in this network",
    }


def test_three_channels_are_added_up_for_grey_images() -> None:
    colour, grey = network(), network(channels=1)
    start = load_start(grey, Source(name="x", weights=colour.state_dict(), answers=AB), AB)
    assert start.notes == ["0.weight: three channels added up to one"]
    image = torch.randn(1, 1, 3, 3)
    assert torch.allclose(grey[0](image), colour[0](image.expand(1, 3, 3, 3)), atol=1e-6)


def test_nothing_that_fits_is_an_error() -> None:
    with pytest.raises(TrainError, match="x: nothing of it fits this network; a: not in this"):
        load_start(network(), Source(name="x", weights={"a": torch.zeros(2)}), AB)


def test_counters_alone_are_nothing_that_fits() -> None:
    """An unrelated network with batch norms has some by the same names."""
    target = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    weights = {"1.num_batches_tracked": torch.tensor(9), "x": torch.zeros(1)}
    with pytest.raises(TrainError, match="nothing of it fits"):
        load_start(target, Source(name="x", weights=weights, answers=AB), AB)


def test_the_digest_is_of_all_that_was_offered() -> None:
    weights = network().state_dict()
    starts = [
        load_start(network(), Source(name="x", weights=offered, answers=AB), AB).digest
        for offered in (
            weights,
            dict(reversed(weights.items())),
            {**weights, "0.bias": weights["0.bias"] + 1},
            {**weights, "more": torch.tensor(1.0)},
        )
    ]
    assert starts[0] == starts[1]
    assert len(set(starts)) == 3


def test_versions_of_modules_are_kept() -> None:
    """MNASNet refuses a state dict without them."""
    recipe = image_recipe()
    target, source = (build((3, 32, 32), 2, architecture="mnasnet0_5") for _ in range(2))
    assert recipe.task == "classification"
    start = load_start(target, Source(name="x", weights=dict(source.state_dict()), answers=AB), AB)
    assert start.initialised == []


def test_files_of_weights(tmp_path: Path) -> None:
    weights = network().state_dict()
    save_file(weights, tmp_path / "a.safetensors")
    torch.save(weights, tmp_path / "b.pt")
    torch.save({"model": weights, "epoch": 3}, tmp_path / "c.pth")
    for file in sorted(tmp_path.iterdir()):
        found = from_file(file, f"weights/{file.name}")
        assert found.name == f"weights/{file.name}"
        assert {name: value.tolist() for name, value in found.weights.items()} == {
            name: value.tolist() for name, value in weights.items()
        }


class Runs:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("ran"),)  # type: ignore[return-value]


@pytest.mark.parametrize("content", ["empty", "text", "pickle", "list", "safetensors"])
def test_what_is_no_file_of_weights(
    content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ("x.safetensors" if content == "safetensors" else "x.pt")
    file.write_bytes({"text": b"no weights", "safetensors": b"\0" * 20}.get(content, b""))
    if content == "pickle":
        torch.save({"a": Runs()}, file)
    elif content == "list":
        torch.save([1, 2], file)
    with pytest.raises(TrainError, match=r"^w/x\.(pt|safetensors): (no weights|holds no state)"):
        from_file(file, f"w/{file.name}")
    # Nothing in it was run.
    assert not (tmp_path / "ran").exists()


# --- torchvision's ---------------------------------------------------------------------------


def recipe(weights: str = "IMAGENET1K_V1"):
    plain = image_recipe()
    model = msgspec.structs.replace(
        plain.model, factory="torchvision/squeezenet1_1", params={}, weights=weights
    )
    return msgspec.structs.replace(plain, model=model)


def place(hub: Path, content: bytes) -> Path:
    """Write a file of weights as the hub would name it."""
    digest = hashlib.sha256(content).hexdigest()[:8]
    folder = hub / "hub" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"squeezenet1_1-{digest}.pth"
    file.write_bytes(content)
    return file


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path


def named(monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    """Let torchvision's entry point at a file that we made: theirs are not to be had here."""
    from torchvision.models import SqueezeNet1_1_Weights
    from torchvision.models._api import Weights

    real = SqueezeNet1_1_Weights.IMAGENET1K_V1.value
    ours = Weights(
        url=f"http://127.0.0.1:9/models/{file}", transforms=real.transforms, meta=real.meta
    )
    monkeypatch.setattr(SqueezeNet1_1_Weights.IMAGENET1K_V1, "_value_", ours)


def test_pretrained_weights_are_held_against_their_digest(
    hub: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    written = tmp_path / "made.pth"
    pretrained = build((3, 32, 32), 1000, architecture="squeezenet1_1")
    torch.save(pretrained.state_dict(), written)
    file = place(hub, written.read_bytes())
    named(monkeypatch, file.name)
    source = from_torchvision(recipe(), SPEC)
    assert source.name == "torchvision squeezenet1_1 IMAGENET1K_V1"
    assert len(source.answers) == 1000
    assert source.notes == [
        "it was trained with [preprocess] std = [0.229, 0.224, 0.225], not [0.2, 0.224, 0.225]"
    ]
    target = build((3, 32, 32), 2, architecture="squeezenet1_1")
    start = load_start(target, source, ["cat", "dog"])
    assert set(start.initialised) == {"classifier.1.weight", "classifier.1.bias"}
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(TrainError, match=r"is damaged: its SHA-256 begins with .* remove it"):
        from_torchvision(recipe(), SPEC)


def test_offline_it_says_where_the_file_belongs(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named(monkeypatch, "squeezenet1_1-00000000.pth")
    with pytest.raises(TrainError) as caught:
        from_torchvision(recipe(), SPEC)
    file = hub / "hub" / "checkpoints" / "squeezenet1_1-00000000.pth"
    assert f"place it at {file}" in str(caught.value)
    assert list(file.parent.iterdir()) == []


def test_weights_that_there_are_not_are_named() -> None:
    with pytest.raises(TrainError, match="squeezenet1_1 has no 'V9'; it has IMAGENET1K_V1"):
        from_torchvision(recipe("V9"), SPEC)
