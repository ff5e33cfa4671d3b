"""A real TorchServe loads what `pack` writes: every format, its own handlers, and trees."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from marwright.archive.pack import pack
from marwright.archive.run import Answer, run
from marwright.archive.types import Packed
from marwright.archive.write import FORMATS
from marwright.serve import server as serving
from marwright.serve.ports import free_ports
from marwright.serve.server import Server
from marwright.serve.stored import Shelf, StoredModel
from tests.archive.tiny_models import LABELS, write_models
from tests.archive.unproven import make

LEAKS = pytest.mark.filterwarnings("ignore:unclosed file .*/ts/:ResourceWarning")
pytestmark = [pytest.mark.torch, pytest.mark.serve, LEAKS]

CONFIG = "minWorkers: 1\nmaxWorkers: 1\nmaxBatchDelay: 1\n"
JSON = "application/json"
# A package with an import in it, relative and absolute, and data beside its code.
TREE = {
    "src/pkg/__init__.py": "",
    "src/pkg/words.py": "WORD = 'pkg'\n",
    "src/pkg/sub/__init__.py": "",
    "src/pkg/sub/handler.py": (
        "import json\n"
        "from pathlib import Path\n\n"
        "from pkg.words import WORD\n"
        "from .names import name\n\n"
        "def handle(data, context):\n"
        "    if data is None:\n"
        "        return None\n"
        "    folder = Path(context.system_properties['model_dir'])\n"
        "    told = json.loads((folder / 'data/deep/told.json').read_text())\n"
        "    return [{'words': [WORD, name(), told]} for _ in data]\n"
    ),
    "src/pkg/sub/names.py": "import beside\n\ndef name():\n    return beside.NAME\n",
    "src/beside.py": "NAME = 'beside'\n",
    "data/deep/told.json": '"data"',
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A running server, and the archives on it by the names of their models."""

    server: Server
    packed: dict[str, Packed]

    def answer(self, model: str, body: bytes, content_type: str) -> Answer:
        headers = {"Content-Type": content_type}
        response = self.server.predict(model, content=body, headers=headers)
        return Answer(status=response.status_code, body=response.content)


def packed_models(store: Path) -> Iterator[Packed]:
    """Pack from the present folder: each format, one of TorchServe's own, a class, a tree."""
    same = {"version": "1.0", "export_path": store, "config_file": "model-config.yaml"}
    function = {"handler": "own_function:start", "serialized_file": "identity.pt", **same}
    for format in FORMATS:
        name = f"as-{format}"
        yield pack(model_name=name, archive_format=format, extra_trees="data", **function)
    stock = {"handler": "image_classifier", "extra_files": "index_to_name.json", **same}
    yield pack(model_name="eager", model_file="images.py", serialized_file="images.pth", **stock)
    yield pack(model_name="script", serialized_file="images.pt", **stock)
    yield pack(model_name="class", handler="own_class.py", serialized_file="identity.onnx", **same)
    yield pack(
        model_name="tree", handler="pkg.sub.handler:handle", source_root="src",
        extra_trees="data", **same,
    )  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all. `make serve` takes .mar only, so it is told of the others here."""
    folder = tmp_path_factory.mktemp("formats")
    store = folder / "store"
    with contextlib.chdir(folder):
        write_models(folder)
        make({**TREE, "model-config.yaml": CONFIG})
        packed = {one.path.name.partition(".")[0]: one for one in packed_models(store)}
    models = tuple(
        StoredModel(name=name, version="1.0", path=one.path) for name, one in packed.items()
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "look_through", lambda *_: Shelf(models=models, refused=()))
        with Server(store=store, home=folder / "home", port=free_ports()) as server:
            server.wait_ready()
            yield Served(server=server, packed=packed)


def png() -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").save(file, "png")
    return file.getvalue()


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_loaded_and_answers(served: Served, format: str) -> None:
    answer = served.answer(f"as-{format}", b"[1.5, 2.5]", JSON)
    assert answer == Answer(status=200, body=b'{"sum": 4.0}')


@pytest.mark.parametrize("model", ["eager", "script"])
def test_handler_of_torchserves_own_answers(served: Served, model: str) -> None:
    answer = served.answer(model, png(), "image/png")
    assert answer.status == 200
    found = json.loads(answer.body)
    assert len(found) == 5
    assert set(found) < set(LABELS)
    assert 5 / 6 < sum(found.values()) < 1


def test_class_over_torchserves_base_handler_answers_with_onnx(served: Served) -> None:
    answer = served.answer("class", b"[1.5, 2.5]", JSON)
    assert (answer.status, json.loads(answer.body)) == (200, {"sum": 4.0})


def test_handler_in_a_package_finds_its_modules_and_its_data(served: Served) -> None:
    answer = served.answer("tree", b"{}", JSON)
    assert (answer.status, json.loads(answer.body)) == (200, {"words": ["pkg", "beside", "data"]})


ASKED: dict[str, Callable[[], tuple[bytes, str]]] = {
    "as-tgz": lambda: (b"[1.5, 2.5]", JSON),
    "eager": lambda: (png(), "image/png"),
    "script": lambda: (png(), "image/png"),
    "class": lambda: (b"[1.5, 2.5]", JSON),
    "tree": lambda: (b"{}", JSON),
}


@pytest.mark.parametrize("model", ASKED)
def test_run_answers_as_the_server_does(served: Served, model: str) -> None:
    [ours] = run(served.packed[model].path, [ASKED[model]()])
    assert ours == served.answer(model, *ASKED[model]())
