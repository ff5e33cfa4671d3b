"""Hold an archive's golden samples against what its code makes of them, stage by stage.

The samples are read before any of that code runs, and compared here, out of its reach.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marwright.archive.names import printable
from marwright.archive.probing import Probe, ProbeError, Reply
from marwright.archive.types import (
    GOLDEN_INDEX,
    GOLDEN_TENSORS,
    GoldenIndex,
    GoldenSample,
    from_json,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

# No image, no JSON, and no text in UTF-8.
JUNK = b"\xff this is no request"
# Bytes that golden samples may have in all, and how many there may be.
_MOST_BYTES, _MOST_SAMPLES = 256 << 20, 1000
# Characters of an answer in a line.
_SHOWN = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Golden:
    """Golden samples: their record, their tensors by name, and the bodies of their requests."""

    index: GoldenIndex
    tensors: Mapping[str, NDArray[Any]]
    bodies: Mapping[str, bytes]


def read_golden(folder: Path) -> Golden | None:
    """Read an unpacked archive's golden samples, if it has any.

    Raises `ValueError`, which begins with the member, for those that are none.
    """
    if not (folder / GOLDEN_INDEX).exists():
        return None
    try:
        index = from_json((folder / GOLDEN_INDEX).read_bytes(), GoldenIndex)
    except ValueError as error:
        raise ValueError(f"{GOLDEN_INDEX}: {error}") from None
    names = {sample.request for sample in index.samples}
    files = [folder / GOLDEN_TENSORS, *(folder / name for name in sorted(names))]
    for file in files:
        # A name of a member, not of a file elsewhere.
        if not (file.resolve().is_relative_to(folder) and file.is_file()):
            raise ValueError(f"{GOLDEN_INDEX}: needs {printable(str(file))}, which is not there")
    if not index.samples:
        return Golden(index=index, tensors={}, bodies={})
    size = sum(file.stat().st_size for file in files)
    if size > _MOST_BYTES or len(index.samples) > _MOST_SAMPLES:
        raise ValueError(
            f"{GOLDEN_INDEX}: {len(index.samples)} samples of {size >> 20} MiB, more than "
            f"{_MOST_SAMPLES} or {_MOST_BYTES >> 20} MiB"
        )
    return Golden(
        index=index,
        tensors=_tensors(folder / GOLDEN_TENSORS, len(index.samples)),
        bodies={name: (folder / name).read_bytes() for name in names},
    )


def _tensors(file: Path, count: int) -> dict[str, NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors = load(file.read_bytes())
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{GOLDEN_TENSORS}: {error}") from None
    for kind in ("input", "output"):
        for number in range(count):
            if f"{kind}.{number}" not in tensors:
                raise ValueError(f"{GOLDEN_TENSORS}: {kind}.{number} is missing")
    return tensors


def check_golden(probe: Probe, golden: Golden, seconds: float) -> list[str]:
    """Send every sample, alone and then all in one batch; returns what is not as recorded.

    Each answer may take so many seconds. Raises `ProbeError` when the probe cannot go on.
    """
    problems = []
    for number, sample in enumerate(golden.index.samples):
        asking = _Asking(probe, golden, sample, number, seconds)
        problems += [f"{sample.request}: {problem}" for problem in asking.differences()]
    if not problems and golden.index.samples:
        found = _together(probe, golden, seconds)
        problems += [f"golden samples in one batch: {problem}" for problem in found]
    return problems


@dataclass(frozen=True, slots=True)
class _Asking:
    """One sample on its way."""

    probe: Probe
    golden: Golden
    sample: GoldenSample
    number: int
    seconds: float

    def differences(self) -> Iterator[str]:
        """Walk the sample through the archive: tensor, output, answer, response."""
        try:
            yield from self._differences()
        except _Fails as fails:
            yield str(fails)

    def _differences(self) -> Iterator[str]:
        inputs = self.golden.tensors[f"input.{self.number}"]
        outputs = self.golden.tensors[f"output.{self.number}"]
        body, expected = self.golden.bodies[self.sample.request], self.sample.answer
        by_service = self.golden.index.entry == "service"
        if by_service:
            read = self._ask("read", "reading the request", body)
            if read.header.get("dtype") != str(inputs.dtype) or not _equal(array_of(read), inputs):
                yield "preprocessing gives another tensor than training's"
        run = "run" if by_service else "forward"
        made = array_of(self._ask(run, "the model's forward", *_sent(inputs)))
        if not _close(made, outputs, self.golden.index, 1):
            yield "the payload's output is not the checkpoint's"
        if by_service:
            said = self._ask("answer", "postprocessing", *_sent(outputs)).header.get("answer")
            # From the very outputs of the checkpoint, so nothing but a last digit may differ.
            if not same(said, expected, 2e-6):
                yield (f"postprocessing makes {_shown(said)} of the checkpoint's output, recorded "
                       f"is {_shown(expected)}")  # fmt: skip
        asked = self._ask("ask", "answering", body, {"types": [self.sample.content_type]})
        if refused := asked.texts("refused"):
            yield refused[0]
            return
        [(status, answer)] = answers_of(asked, 1)
        if status != 200:
            yield f"answered with status {status}: {_shown(parsed(answer))}"
        elif not same(parsed(answer), expected, 1e-3):
            yield f"the answer is {_shown(parsed(answer))}, recorded is {_shown(expected)}"

    def _ask(
        self, do: str, doing: str, blob: bytes, arguments: Mapping[str, Any] | None = None
    ) -> Reply:
        doing = f"{self.sample.request}: {doing}"
        reply = self.probe.ask(do, doing, [blob], seconds=self.seconds, **(arguments or {}))
        return _checked(self.probe, reply)


class _Fails(Exception):
    """The handler raises in a stage."""


def _checked(probe: Probe, reply: Reply) -> Reply:
    if error := reply.texts("error"):
        raise _Fails(f"the handler fails: {error[0]}{probe.hint(error[0])}")
    return reply


def _together(probe: Probe, golden: Golden, seconds: float) -> Iterator[str]:
    """Send all samples as one batch, behind what is no request, and look at their outputs."""
    samples, doing = golden.index.samples, "golden samples in one batch: answering"
    bodies = [golden.bodies[sample.request] for sample in samples]
    types = ["application/octet-stream", *(sample.content_type for sample in samples)]
    try:
        asked = _checked(
            probe, probe.ask("ask", doing, [JUNK, *bodies], seconds=seconds, types=types)
        )
        if refused := asked.texts("refused"):
            yield refused[0]
            return
        (junk, _), *answers = answers_of(asked, len(types))
        if not 400 <= junk < 500:
            yield f"what is no request is answered with status {junk}, not with a 4xx"
        if any(status != 200 for status, _ in answers):
            yield f"answered with status {', '.join(str(status) for status, _ in answers)}"
        if golden.index.entry == "handle":
            yield from _otherwise(samples, [answer for _, answer in answers])
            return
        made = array_of(_checked(probe, probe.ask("together", doing, bodies, seconds=seconds)))
    except _Fails as fails:
        yield str(fails)
        return
    import numpy as np

    recorded = np.concatenate([golden.tensors[f"output.{n}"] for n in range(len(samples))])
    # Both may be as far from float64 as the gate allows.
    if not _close(made, recorded, golden.index, 2):
        yield "the payload's output is not the checkpoint's"


def _otherwise(samples: Sequence[GoldenSample], answers: Sequence[bytes]) -> Iterator[str]:
    for sample, answer in zip(samples, answers, strict=True):
        if not same(parsed(answer), sample.answer, 1e-3):
            yield (f"the answer to {sample.request} is {_shown(parsed(answer))}, and alone "
                   f"{_shown(sample.answer)}")  # fmt: skip


def answers_of(reply: Reply, count: int) -> list[tuple[int, bytes]]:
    """Return statuses and bodies of so many answers. Raises `ProbeError` when they are others."""
    statuses = reply.header.get("statuses")
    if not (isinstance(statuses, list) and len(statuses) == len(reply.blobs) == count):
        raise ProbeError(f"answering: no {count} answers came back")
    if any(type(status) is not int for status in statuses):
        raise ProbeError(f"answering: no numbers for statuses: {_shown(statuses)}")
    return list(zip(statuses, reply.blobs, strict=True))


def parsed(answer: bytes) -> Any:
    """Return what an answer says: the JSON that it is, or its text."""
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):
        return answer.decode(errors="replace")


def _shown(value: Any) -> str:
    return printable(str(value), _SHOWN)


def _sent(array: NDArray[Any]) -> tuple[bytes, dict[str, Any]]:
    return array.tobytes(), {"dtype": str(array.dtype), "shape": list(array.shape)}


def array_of(reply: Reply) -> NDArray[Any] | None:
    """Return the tensor of a reply; None when it is none, or one that NumPy does not have."""
    import numpy as np

    try:
        [blob], shape = reply.blobs, reply.header["shape"]
        array: NDArray[Any] = np.frombuffer(blob, np.dtype(reply.header["dtype"])).reshape(shape)
    except (ValueError, TypeError, KeyError):
        return None
    return array


def _equal(made: NDArray[Any] | None, recorded: NDArray[Any]) -> bool:
    import numpy as np

    return made is not None and bool(np.array_equal(made, recorded))


def _close(
    made: NDArray[Any] | None, recorded: NDArray[Any], index: GoldenIndex, times: int
) -> bool:
    import numpy as np

    if made is None or made.shape != recorded.shape or made.dtype.kind not in "fiub":
        return False
    found, right = made.astype(np.float64), recorded.astype(np.float64)
    return bool(np.allclose(found, right, rtol=times * index.rtol, atol=times * index.atol))


def same(answer: Any, expected: Any, tolerance: float) -> bool:
    """Compare two answers: equal in form and text, numbers within `tolerance` of 1 + their size."""
    if isinstance(expected, dict):
        return (
            isinstance(answer, dict)
            and answer.keys() == expected.keys()
            and all(same(answer[key], expected[key], tolerance) for key in expected)
        )
    if isinstance(expected, list):
        return (
            isinstance(answer, list)
            and len(answer) == len(expected)
            and all(same(a, e, tolerance) for a, e in zip(answer, expected, strict=True))
        )
    if isinstance(expected, float) and isinstance(answer, (int, float)):
        try:
            return bool(abs(answer - expected) <= tolerance * (1 + abs(expected)))
        except OverflowError:
            return False
    return bool(answer == expected)
