"""What torch-model-archiver makes of the documented options is accepted; so is what `pack` makes.

Real models, through the loader of TorchServe; none of them is proven.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from marwright.archive.store import publish
from marwright.archive.verify import verify
from marwright.cli.main import main
from marwright.recipe.errors import StoreError
from tests.archive.theirs import archived
from tests.archive.tiny_models import write_models

pytestmark = pytest.mark.torch

EAGER = "--handler image_classifier --model-file images.py --serialized-file images.pth"
SCRIPT = "--serialized-file images.pt --extra-files index_to_name.json"
IDENTITY = "--serialized-file identity.pt"
UNTRIED = [
    "requests: none was tried; `--sample FILE` sends one", "golden samples: it carries none",
]  # fmt: skip
DIGESTS = "digests: it carries no record of them"
LSP = "handler: only TorchServe's C++ backend can run it"

OPTIONS = {
    "image_classifier, eager": (f"{EAGER} --extra-files index_to_name.json", ()),
    "image_classifier, TorchScript": (f"--handler image_classifier {SCRIPT}", ()),
    "image_segmenter": (f"--handler image_segmenter {SCRIPT} --archive-format zip-store", ()),
    "object_detector": (f"--handler object_detector {SCRIPT} --archive-format tgz", ()),
    "text_classifier": (
        "--handler text_classifier --model-file texts.py --serialized-file texts.pth "
        "--extra-files source_vocab.pt,index_to_name.json -r requirements.txt",
        (),
    ),
    "base_handler, ONNX": ("--handler base_handler --serialized-file identity.onnx", ()),
    "a class": (
        "--handler own_class.py --serialized-file identity.onnx --archive-format no-archive "
        "-c model-config.yaml",
        (),
    ),
    "a function": (f"--handler own_function:start {IDENTITY} --extra-files folder", ()),
    "LSP": (f"--handler TorchScriptHandler {IDENTITY} --runtime LSP", (LSP,)),
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_models(folder)
    (folder / "requirements.txt").write_text("torch\n")
    (folder / "model-config.yaml").write_text("minWorkers: 1\nmaxWorkers: 1\nbatchSize: 2\n")
    (folder / "folder/sub").mkdir(parents=True)
    (folder / "folder/sub/data.json").write_text("{}")
    return folder


@pytest.mark.parametrize("what", OPTIONS)
def test_what_either_makes_is_accepted_and_is_not_proven(
    what: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(models)
    options, unchecked = OPTIONS[what]
    # What cannot be run here is sent nothing either.
    untried = UNTRIED[-1:] if LSP in unchecked else UNTRIED
    words = ["--model-name", "tiny", "--version", "1.0", *options.split()]
    theirs = archived(words, tmp_path / "theirs")
    assert main(["pack", *words, "--export-path", str(tmp_path / "ours")]) == 0
    ours = tmp_path / "ours" / theirs.name
    with ThreadPoolExecutor(2) as both:
        of_theirs, of_ours = both.map(verify, (theirs, ours))
    assert (of_theirs.problems, of_ours.problems) == ([], [])
    assert of_theirs.unchecked == [DIGESTS, *unchecked, *untried]
    assert of_ours.unchecked == [*unchecked, *untried]
    for archive, report in ((theirs, of_theirs), (ours, of_ours)):
        assert not report.proven
        with pytest.raises(StoreError, match="it carries no proof"):
            publish(archive, report, tmp_path / "store")
    assert not (tmp_path / "store").exists()
