"""The fuzzers' loop: the same inputs by the same seed, and no fault passes it by."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bench.fuzz import loop
from bench.fuzz.loop import mutated, run

SEEDS = [b"abc", b"[1, 2]", bytes(range(64))]


def fuzzed(folder: Path, execute: object, minutes: float = 0.01) -> int:
    return run("x", SEEDS, execute, minutes=minutes, seed=0, folder=folder)  # type: ignore[arg-type]


def test_inputs_are_drawn_by_the_seed_alone() -> None:
    first, second = ([mutated(SEEDS, chance, bytes) for _ in range(200)]
                     for chance in (random.Random(3), random.Random(3)))  # fmt: skip
    assert first == second
    assert len(set(first)) > 100


def test_what_holds_is_told_with_its_slowest_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fuzzed(tmp_path, lambda content: f"{len(content)} bytes") == 0
    said = capsys.readouterr().out
    assert "executions" in said
    assert (tmp_path / "x" / "slowest").exists()
    assert "FOUND" not in said


def test_an_exception_is_found_and_its_input_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def execute(content: bytes) -> str:
        if b"\xff" in content:
            raise KeyError("seeded fault")
        return "fine"

    assert fuzzed(tmp_path, execute, 0.05) == 1
    assert "FOUND KeyError at test_fuzz.py" in capsys.readouterr().out
    assert b"\xff" in (tmp_path / "x" / "finding-0").read_bytes()


def test_an_input_that_takes_too_long_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "MOST_SECONDS", 0.001)
    assert fuzzed(tmp_path, lambda _: str(sum(range(300_000)))) == 1
    assert "s of CPU time" in capsys.readouterr().out


@pytest.mark.torch
def test_the_readers_hold_for_a_moment(tmp_path: Path) -> None:
    from bench.fuzz import readers

    seeds = readers.seeds()
    # Each seed is what it was made for: some reader takes most of them.
    assert sum("read" in readers.execute(seed) for seed in seeds) > len(seeds) // 2
    code = run("readers", seeds, readers.execute, minutes=0.05, seed=1, repair=readers.repair,
               folder=tmp_path)  # fmt: skip
    assert code == 0
