"""What `verify --store`, `list` and `serve` say of a store, beside what a real TorchServe takes."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx
import pytest

from marwright.archive.store import list_store, removal
from marwright.cli.listing import strangers
from marwright.cli.verify_files import verify_files
from marwright.pipeline.layout import Layout
from marwright.recipe.errors import ServeError
from marwright.serve.ports import free_ports
from marwright.serve.server import Server
from marwright.serve.stored import look_through
from tests.servers import write_mar, write_root

# Each is a store: what lies in it, and which files of it are served.
STORES = {
    "only archives": (["a.mar", "b.mar"], ["a.mar", "b.mar"]),
    "hidden": (["a.mar", ".a.mar", "._a.mar", ".mar"], ["a.mar"]),
    "hidden alone": ([".a.mar"], []),
    "editors": (["a.mar", "a.mar~", "a.mar.bak", "#a.mar#", ".a.mar.swp", "a.mar.orig"], ["a.mar"]),
    "copies": (["a.mar", "a.mar.part", "a.mar.crdownload", "a (1).mar"], ["a.mar"]),
    "a copy alone": (["a_copy.mar"], ["a_copy.mar"]),
    "two copies": (["a_copy.mar", "a_second.mar"], []),
    "other names": (["a.mar", "a.MAR", "a.Mar", "a.zip", "a.war", "a.tar.gz", "a.tgz"], ["a.mar"]),
    "what all would take": (["a.mar", "b.model"], ["a.mar"]),
}


def fill(store: Path, names: list[str]) -> None:
    store.mkdir()
    for name in names:
        model = name.strip("._#")[0]
        made = write_mar(store.parent / "made" / "x.mar", name=model)
        shutil.copy(made, store / name)


@pytest.mark.parametrize("case", STORES)
def test_all_verbs_see_the_same(
    tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names, wanted = STORES[case]
    root = write_root(tmp_path / "root", free_ports())
    store = root / "model_store"
    fill(store, names)
    assert [one.path.name for one in list_store(store).models] == wanted
    if wanted:
        shelf = look_through(store)
        assert [one.path.name for one in shelf.models] == wanted
        said = "\n".join([*shelf.refused, *shelf.strangers])
    else:
        with pytest.raises(ServeError, match="no archive to serve") as raised:
            look_through(store)
        said = str(raised.value)
    listed = "\n".join(strangers(Layout(root=root)))
    for name in names:
        # Of what is served, `list` says that no recipe is known.
        assert f"model_store/{name}: " in listed
        assert (f"/{name}: " in said) == (name not in wanted)
        # Each of them says how what is not served is removed.
        for text, path in ((listed, Path("model_store", name)), (said, store / name)):
            assert (f"`{removal(path)}` removes it" in text) == (name not in wanted)
    listing = list_store(store)
    assert sorted(path.name for path in [p.path for p in listing.strangers] + listing.archives) == (
        sorted(names)
    )
    assert capsys.readouterr().out == ""


@pytest.mark.serve
@pytest.mark.torch
def test_torchserve_takes_nothing_of_which_verify_says_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `--models all`, as after `source env.sh`, it picks for itself."""
    root = write_root(tmp_path / "root", free_ports())
    store = root / "model_store"
    write_mar(store / "good.mar")
    for name in (".hidden.mar", "upper.MAR", "editor.mar~", "backup.mar.bak"):
        model = name.strip(".").partition(".")[0]
        shutil.copy(write_mar(tmp_path / "made" / "x.mar", name=model), store / name)
    (store / "link.mar").symlink_to(write_mar(tmp_path / "elsewhere" / "link.mar"))
    shutil.unpack_archive(write_mar(tmp_path / "made" / "folder.mar"), store / "folder", "zip")
    unpacked = tmp_path / "tar" / "old_kind"
    shutil.unpack_archive(write_mar(tmp_path / "made" / "old_kind.mar"), unpacked, "zip")
    shutil.make_archive(str(unpacked), "gztar", unpacked.parent, "old_kind")
    shutil.copy(f"{unpacked}.tar.gz", store / "old_kind.model")
    server = Server(store=store, home=tmp_path / "home", config=root / "config.properties")
    launch = server_module_launch(monkeypatch)
    with server:
        server.settle()
        answer = httpx.get(
            f"{server.management_url}/models?limit=100",
            headers=server.tokens.header("management") if server.tokens else {},
            trust_env=False,
        )
    taken = {one["modelName"]: one["modelUrl"] for one in answer.json()["models"]}
    assert launch == ["all"]
    assert taken == {
        "good": "good.mar",
        "old_kind": "old_kind.model",
        "link": "link.mar",
        "folder": "folder",
    }
    verify_files([], store, as_json=False)
    said = capsys.readouterr().out
    for url in taken.values():
        assert f"{store / url}: " in said


def server_module_launch(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the next server be told to load all."""
    from marwright.serve import server

    told: list[str] = []
    real = server.launch

    def launch(home: object, **options: object) -> object:
        told.append("all")
        return real(home, **{**options, "archives": ["all"]})  # type: ignore[arg-type]

    monkeypatch.setattr(server, "launch", launch)
    return told
