"""requirements.lock: everything pinned, everything hashed, no index named, the ranges kept."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ci.workflows import ROOT

LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PIN = re.compile(r"[a-z0-9-]+==[0-9][0-9a-z.]*( ; [^@]+)?( --hash=sha256:[0-9a-f]{64})+")


def faults(lock: str) -> list[str]:
    """The entries that are not a name, an exact version, perhaps a marker, and hashes."""
    entries = re.sub(r" *\\\n +", " ", lock).splitlines()
    return [entry for entry in entries if not PIN.fullmatch(entry)]


def test_every_entry_is_pinned_and_hashed():
    assert LOCK.count("\n") > 100
    assert faults(LOCK) == []
    assert "://" not in LOCK


ONE = "a-b==1.0 ; sys_platform == 'linux' \\\n    --hash=sha256:" + "0" * 64 + "\n"


@pytest.mark.parametrize(
    "line",
    [
        "a==1.0",
        "a>=1.0 \\\n    --hash=sha256:" + "0" * 64,
        "a==1.* \\\n    --hash=sha256:" + "0" * 64,
        "a==1.0 \\\n    --hash=sha256:" + "0" * 63,
        "a==1.0 \\\n    --hash=md5:" + "0" * 64,
        "a @ file:a.whl \\\n    --hash=sha256:" + "0" * 64,
        "--index-url simple",
        "--find-links wheels",
        "-e .",
    ],
)
def test_a_fault_is_seen(line):
    assert faults(ONE) == []
    assert len(faults(ONE + line + "\n" + ONE)) == 1


def test_the_lock_keeps_the_ranges_of_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"].values()
    base, dev = project["project"]["dependencies"], project["dependency-groups"]["dev"]
    direct = [*base, *(wanted for extra in extras for wanted in extra), *dev]
    pins: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([a-z0-9-]+)==([0-9][0-9a-z.]*)", LOCK, re.MULTILINE):
        pins.setdefault(name, []).append(version)
    for wanted in map(Requirement, direct):
        if wanted.name == "marwright":
            # One extra that takes another in.
            continue
        versions = pins.get(canonicalize_name(wanted.name), [])
        assert versions, f"{wanted.name} is not in the lock: make lock"
        assert all(version in wanted.specifier for version in versions), f"{wanted}: make lock"
