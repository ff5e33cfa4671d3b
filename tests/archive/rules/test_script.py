"""TorchScript that would reach files or other processes, told from its source."""

from __future__ import annotations

import time
import zipfile
from pathlib import Path

import pytest

from marwright.archive.rules.script import script_problems, source_problems

REACHING = {
    "a call": b'  torch.save(x, "f")\n',
    "an operator of a library": b'  ops.aten.save(x, "f")\n',
    "a method": b'  x.save("f")\n',
    "a file that is read": b'  y = torch.from_file("/etc/passwd", False, 1)\n',
    "blanks": b'  torch . \t save(x, "f")\n',
    "far away": b"  torch." + b" " * 10_000 + b'save(x, "f")\n',
    "another line": b'  (torch.\n  save)(x, "f")\n',
    "a line that goes on": b'  torch.\\\nsave(x, "f")\n',
    "behind a comment": b'  (torch.# x\n  save)(x, "f")\n',
    "behind a text with a hash": b'  f("#", (torch.\n#\n save)(x, "f"))\n',
    "another name": b"  f = torch.save\n",
    "looked up": b'  getattr(torch, "save")(x, "f")\n',
    "looked up by halves": b'  getattr(torch, "sa" "ve")(x, "f")\n',
    "looked up by escapes": b'  getattr(torch, "\\x73ave")(x, "f")\n',
    "looked up over lines": b'  getattr(torch,\n  "save")(x, "f")\n',
    "looked up in what is looked up": b'  getattr(getattr(ops, "aten"), "save")(x, "f")\n',
    "other processes": b"  ops.c10d.send([x], pg, 0, 0)\n",
    "a class of theirs": b"  a : __torch__.torch.classes.c10d.Store\n",
}
HARMLESS = {
    "a text": b'  print("please save me", "save")\n',
    "a variable": b"  save = torch.add(x, y)\n  return torch.mul(save, x)\n",
    "a longer name": b"  return self.saved(x).from_files\n",
    "names that are no identifiers": b'  _0 = getattr(self, "0")\n  _1 = getattr(self.a.b, "1x")\n',
    "nothing": b"",
}


@pytest.mark.parametrize("source", REACHING.values(), ids=REACHING)
def test_source_that_reaches_out_is_found(source: bytes) -> None:
    [problem] = source_problems(b"class A(Module):\n" + source)
    assert problem.startswith(("uses ", "looks a name up with getattr"))


@pytest.mark.parametrize("source", HARMLESS.values(), ids=HARMLESS)
def test_source_that_does_not_is_let_be(source: bytes) -> None:
    assert [*source_problems(b"class A(Module):\n" + source)] == []


@pytest.mark.parametrize("name", ["m/code/a.py", "m/CODE/A.PY", "m/code/__torch__/b/c.py"])
def test_every_source_of_a_file_is_searched(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("m/data.pkl", b"torch.save")
        archive.writestr("m/code/first.py", b"class A(Module):\n")
        archive.writestr(name, REACHING["a call"])
    [problem] = script_problems(tmp_path / "m.pt")
    assert problem.startswith(f"{name}: uses save, which reads or writes files")


def test_other_files_have_none(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"torch.save(x)")
    assert script_problems(tmp_path / "weights") == []


@pytest.mark.parametrize(
    "evil",
    [b"getattr(" * 500_000, b"getattr(a, " * 400_000, b" save" * 800_000, b"." * 4_000_000,
     b"#.\n" * 1_300_000, b"\n" * 4_000_000 + b"save", b"getattr(a, \"b\")" * 250_000],
)  # fmt: skip
def test_time_is_in_proportion_to_the_source(evil: bytes) -> None:
    started = time.process_time()
    [*source_problems(evil)]
    assert time.process_time() - started < 5


def test_source_without_end_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/code/a.py", b"\n" * (17 << 20))
    assert script_problems(tmp_path / "m.pt") == [
        "m/code/a.py: more than 16 MiB of TorchScript source in all"
    ]
