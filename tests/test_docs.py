"""What the pages say about files, commands, recipes and exit codes is so."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from marwright.project import place
from marwright.recipe import errors
from marwright.recipe.errors import MarwrightError
from marwright.recipe.types import Recipe
from tests.projects import ROOT

PAGES = tuple(
    page.relative_to(ROOT).as_posix()
    for page in (
        *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
        *sorted((ROOT / "docs").rglob("*.md")),
    )
)
COMMANDS = "docs/reference/commands.md"

_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`]+)`")


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


# --- placeholders ---------------------------------------------------------------------------


def placeholders(text: str) -> list[str]:
    """Return what a release or a measurement should have filled in: `@NAME@`."""
    return re.findall(r"@[A-Z][A-Z0-9_]*@", text)


def test_no_placeholder_is_left(page: str) -> None:
    assert placeholders(text_of(page)) == []


def test_a_placeholder_is_found() -> None:
    assert placeholders("r2 @R2@, mail a@B.org and c@D.org, @ONE_MORE@") == ["@R2@", "@ONE_MORE@"]


# --- links ----------------------------------------------------------------------------------


def broken_links(text: str, folder: Path, root: Path = ROOT) -> Iterator[str]:
    """Name each relative link that leads to nothing, or out of the repository."""
    prose = _SPAN.sub("", _FENCE.sub("", text))
    inline = re.findall(r"\]\(<?([^)\s>]+)", prose)
    referenced = re.findall(r"^ *\[[^\]]+\]: *<?(\S+?)>?$", prose, re.MULTILINE)
    for link in (*inline, *referenced):
        path = link.partition("#")[0]
        if not path or re.match(r"[a-z][a-z0-9+.-]*:", path):
            continue
        target = (folder / path).resolve()
        if not target.exists() or not target.is_relative_to(root):
            yield link


def test_each_link_leads_to_a_file(page: str) -> None:
    assert [*broken_links(text_of(page), (ROOT / page).parent)] == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    root = tmp_path / "house"
    (root / "docs").mkdir(parents=True)
    (root / "README.md").touch()
    (tmp_path / "outside.md").touch()
    good = "[a](../README.md) [b](../README.md#part) [c](#part) [d](https://a.org) [e](../docs)"
    code = "`[a](gone.md)`\n\n```\n[a](gone.md)\n```\n"
    assert [*broken_links(f"{good}\n{code}", root / "docs", root)] == []
    bad = "[a](README.md) [`b`](gone.md#part) [c](../../outside.md)\n[d]: gone/d.md\n"
    found = [*broken_links(f"{good}\n{code}{bad}", root / "docs", root)]
    assert found == ["README.md", "gone.md#part", "../../outside.md", "gone/d.md"]


# --- make -----------------------------------------------------------------------------------


def goals(text: str) -> set[str]:
    """Return the targets that code on a page gives to make, prompts and variables left out."""
    spans = _SPAN.findall(_FENCE.sub("", text))
    lines = [line for _, block in _FENCE.findall(text) for line in block.splitlines()]
    found = set()
    for command in (*spans, *lines):
        words = command.strip().removeprefix("$ ").split()
        if words[:1] != ["make"]:
            continue
        for word in words[1:]:
            if re.fullmatch(r"[a-z][a-z-]*", word):
                found.add(word)
            elif not re.fullmatch(r"[A-Z]+=[^'\"]*", word):
                # A comment, or a value of several words.
                break
    return found


def targets(makefile: str) -> set[str]:
    """Return the phony targets of the Makefile, those in a variable included."""
    variables = dict(re.findall(r"^(\w+) := (.+)$", makefile, re.MULTILINE))
    phony = " ".join(re.findall(r"^\.PHONY: (.+)$", makefile, re.MULTILINE))
    return set(re.sub(r"\$\((\w+)\)", lambda name: variables[name[1]], phony).split())


def test_each_make_command_exists(page: str) -> None:
    assert goals(text_of(page)) - targets(text_of("Makefile")) == set()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", COMMANDS])
def test_the_pages_about_commands_name_some(page: str) -> None:
    assert len(goals(text_of(page))) >= 4


def test_the_goals_of_a_page_are_found() -> None:
    text = (
        "make itself; `make one two` and `make\nthree A=b`, but `x make no`, `make` and `python no`"
        "\n```console\n$ make A=1 four    # make no\n$ make five A='no no' no\nmake six\n"
        "# make no\n```\n`make seven`\n"
    )
    assert goals(text) == {"one", "two", "three", "four", "five", "six", "seven"}


def test_the_targets_of_a_makefile_are_found() -> None:
    text = "ALL := a b\n.PHONY: $(ALL)\n.PHONY: c d\nc: e\n"
    assert targets(text) == {"a", "b", "c", "d"}


# --- the example of a recipe ----------------------------------------------------------------


def example(text: str) -> str:
    """Return the one TOML block of a page."""
    (block,) = [block for kind, block in _FENCE.findall(text) if kind == "toml"]
    return block


def recipe_of(toml: str) -> Recipe:
    return msgspec.convert({**tomllib.loads(toml), "name": "shapes"}, Recipe)


def test_the_example_is_a_recipe() -> None:
    assert "`archive/shapes.toml`" in text_of("README.md")
    recipe = recipe_of(example(text_of("README.md")))
    for file in (recipe.model.file, recipe.data.file, recipe.serve.file):
        assert place(file, ROOT).is_file()


@pytest.mark.parametrize(
    ("old", "new"),
    [("epochs", "epoch"), ("task =", "# task ="), ('kind = "image"', 'kind = "table"')],
)
def test_an_example_that_is_no_recipe_is_found(old: str, new: str) -> None:
    toml = example(text_of("README.md"))
    assert old in toml
    with pytest.raises(msgspec.ValidationError):
        recipe_of(toml.replace(old, new))


# --- exit codes -----------------------------------------------------------------------------

# Success, argparse's own, and what a shell makes of SIGINT.
OTHER_CODES = {0, 1, 2, 129, 130, 143}


def exit_codes(text: str) -> list[int]:
    """Return the codes of the table of exit codes, in its order."""
    _, _, section = text.partition("\n## Exit codes")
    return [int(code) for code in re.findall(r"^\| (\d+) \| [^|\s]", section, re.MULTILINE)]


def raised_codes() -> set[int]:
    """Return the exit codes of the tree of errors."""
    tree = [c for c in vars(errors).values() if isinstance(c, type)]
    return {c.exit_code for c in tree if issubclass(c, MarwrightError)}


def test_the_table_of_exit_codes_is_that_of_the_errors() -> None:
    codes = exit_codes(text_of(COMMANDS))
    assert codes == sorted(raised_codes() | OTHER_CODES)
    assert set(range(1, 12)) <= set(codes)


def test_a_code_that_is_missing_from_the_table_is_found() -> None:
    text = text_of(COMMANDS)
    shorter = re.sub(r"^\| 7 \|.*\n", "", text, flags=re.MULTILINE)
    assert set(exit_codes(text)) - set(exit_codes(shorter)) == {7}
    assert exit_codes("| 1 | before |\n## Exit codes of it\n| 0 | a |\n| x | b |\n| 3 | |\n") == [0]
