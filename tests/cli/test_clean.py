"""`make clean` while others are at work, and what a build says whose folder was removed anyway."""

from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path

import pytest

from ci.workflows import ROOT as HERE
from marwright.cli.alone import project_lock
from marwright.cli.clean import clean
from marwright.pipeline.layout import Layout
from marwright.recipe.errors import MarwrightError
from marwright.serve.folders import Home
from marwright.serve.foreground import HOME
from marwright.serve.ports import Ports
from marwright.serve.process import Birth, Record
from tests.projects import built, command, edit, pipeline


def dirty(root: Path) -> Path:
    for name in ("build/x", "model_store", "dist", "archive"):
        (root / name).mkdir(parents=True)
    return root


def left(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_what_was_built_goes_and_nothing_else(tmp_path: Path) -> None:
    assert clean(Layout(root=dirty(tmp_path))) == 0
    assert left(tmp_path) == ["archive"]
    assert clean(Layout(root=tmp_path)) == 0


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "big_disk" / "build").mkdir(parents=True)
    root = tmp_path / "root"
    root.mkdir()
    (root / "build").symlink_to(tmp_path / "big_disk" / "build")
    clean(Layout(root=root))
    assert left(root) == []
    assert (tmp_path / "big_disk" / "build").is_dir()


def test_nothing_is_removed_while_somebody_works(tmp_path: Path) -> None:
    root = dirty(tmp_path)
    with project_lock(root), project_lock(root), pytest.raises(MarwrightError, match="at work"):
        clean(Layout(root=root))
    assert left(root) == ["archive", "build", "dist", "model_store"]
    clean(Layout(root=root))


def test_nothing_is_removed_under_a_server_whose_front_was_killed(tmp_path: Path) -> None:
    root = dirty(tmp_path)
    home = Home(path=root / HOME)
    home.path.mkdir()
    with subprocess.Popen(["sleep", "60"]) as server:
        birth = Birth.of(server.pid)
        Record(
            launcher=birth, jvm=birth, ports=Ports.following(9080), archives=(), temp="/nowhere"
        ).write(home.record)
        # Also while its front lives, and holds the lock.
        for front in (contextlib.nullcontext(), project_lock(root)):
            with (
                front,
                pytest.raises(MarwrightError, match="port 9080: `make stop`, then `make clean`"),
            ):
                clean(Layout(root=root))
        server.kill()
    clean(Layout(root=root))
    assert left(root) == ["archive"]


def test_make_clean_asks_the_pipeline_where_there_is_one() -> None:
    lines = subprocess.run(
        ["make", "-n", "clean"], cwd=HERE, capture_output=True, text=True, check=True
    ).stdout
    assert "-m marwright clean ; else" in lines


@pytest.mark.torch
def test_clean_during_a_build_is_refused_with_the_models_name(project: Path) -> None:
    edit(project, "archive/tiny_a.toml", "[serve]", "[serve]\nmax_batch_delay_ms = 20")
    with subprocess.Popen(
        command("archive", "--model", "tiny_a"), cwd=project, stdout=subprocess.PIPE, text=True
    ) as build:
        assert build.stdout is not None
        build.stdout.readline()
        refused = pipeline(project, "clean")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "nothing was removed: tiny_a is being built in " in refused.stderr
        build.communicate(timeout=120)
    assert build.returncode == 0
    assert built(project, "clean").startswith("clean: removing")
    assert not (project / "build").exists()


@pytest.mark.torch
def test_a_build_whose_folder_is_removed_says_so(project: Path) -> None:
    edit(project, "archive/tiny_a.toml", "epochs = 2", "epochs = 3")
    with subprocess.Popen(
        command("archive", "--model", "tiny_a"),
        cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as build:  # fmt: skip
        assert build.stdout is not None
        # Its process has begun, and takes seconds to import what it needs.
        while not (project / "build/tiny_a/.train.out").exists():
            assert build.poll() is None
            time.sleep(0.01)
        # All of it at once, as `rm -rf` is over before the next step.
        (project / "build").rename(project / "gone")
        _, errors = build.communicate(timeout=120)
    assert build.returncode == 12
    assert "marwright: tiny_a train: " in errors
    assert "run the same command again" in errors
    assert "Traceback" not in errors
