"""The workflows keep our rules, and each rule is seen to refuse what it is there to refuse."""

import shutil
from pathlib import Path

import pytest

from ci.workflows import FOLDER, ROOT, make_targets, own_rules, problems, tool_findings

TARGETS = make_targets(ROOT / "Makefile")
CHECKOUT = "actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd"


def test_our_workflows_are_clean():
    workflows = sorted(FOLDER.iterdir())
    assert [path.name for path in workflows] == ["ci.yml", "nightly.yml", "release.yml"]
    assert problems(workflows, ROOT / "Makefile") == []


def test_targets_are_those_of_the_makefile():
    assert {"help", "setup", "train", "verify", "release", "publish", "test"} <= TARGETS
    assert "MODEL" not in TARGETS


def seeded(tmp_path: Path, name: str, old: str, new: str) -> Path:
    """A copy of a real workflow with one fault in it."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert old in text
    copy = tmp_path / name
    copy.write_text(text.replace(old, new, 1), encoding="utf-8")
    return copy


@pytest.mark.parametrize(
    ("name", "old", "new", "complaint"),
    [
        ("ci.yml", "run: make lint", "run: make litn", "run: make litn"),
        ("ci.yml", "run: make lint", "run: make lint test", "run: make lint test"),
        ("ci.yml", "run: make lint", "run: pip install ruff", "run: pip install ruff"),
        ("ci.yml", "run: make lint", "run: make lint; id", "run: make lint; id"),
        ("ci.yml", "permissions: {}", "permissions: read-all", "permissions: must be {}"),
        ("ci.yml", "\npermissions: {}\n", "\n", "permissions: must be {}"),
        ("ci.yml", " # v6.0.2", "", "uses: actions/checkout@"),
        ("ci.yml", " # v6.0.2", " # v6", "uses: actions/checkout@"),
        ("ci.yml", f"{CHECKOUT} # v6.0.2", "actions/checkout@v6", "uses: actions/checkout@v6"),
        ("ci.yml", "ce83dd # v6.0.2", "ce83d # v6.0.2", "uses: actions/checkout@"),
        ("ci.yml", "persist-credentials: false", "fetch-depth: 0", "persist-credentials"),
        ("ci.yml", "contents: read", "contents: write", "contents: write is more"),
        ("ci.yml", "contents: read", "id-token: write", "id-token: write is more"),
        (
            "ci.yml",
            "    permissions:\n      contents: read # the checkout\n",
            "",
            "job check: permissions: must be listed",
        ),
        ("release.yml", "run: make publish", "run: make release", "contents: write is more"),
    ],
)
def test_own_rules_refuse(tmp_path, name, old, new, complaint):
    workflow = seeded(tmp_path, name, old, new)
    found = list(own_rules(workflow, TARGETS))
    assert len(found) == 1, found
    assert complaint in found[0]


def test_schema_refuses_a_misspelt_key(tmp_path):
    workflow = seeded(tmp_path, "ci.yml", "runs-on:", "run-on:")
    findings = [line for line in tool_findings([workflow]) if line.startswith("check-jsonschema")]
    assert len(findings) == 1
    assert "runs-on" in findings[0]


def test_zizmor_refuses_an_injection(tmp_path):
    workflow = seeded(
        tmp_path, "ci.yml", "run: make lint", "run: echo ${{ github.event.pull_request.title }}"
    )
    (finding,) = tool_findings([workflow])
    assert "template-injection" in finding


def test_zizmor_refuses_a_cache_in_a_release(tmp_path):
    workflow = seeded(
        tmp_path,
        "release.yml",
        'python-version: "3.11"',
        'python-version: "3.11"\n          cache: pip',
    )
    (finding,) = tool_findings([workflow])
    assert "cache-poisoning" in finding


def test_problems_gather_all_of_it(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    workflow = seeded(tmp_path, "ci.yml", "permissions: {}", "permissions: write-all")
    found = problems([workflow], tmp_path / "Makefile")
    assert [line for line in found if line.startswith("ci.yml: permissions")]
    assert [line for line in found if "excessive-permissions" in line]
