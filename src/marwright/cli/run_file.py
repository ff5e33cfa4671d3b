"""`marwright run FILE INPUT…`: an archive's handler without a server."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from marwright.archive.run import run
from marwright.cli.body import read_body
from marwright.recipe.errors import MarwrightError, ServeError
from marwright.recipe.extras import missing


def run_file(file: Path, inputs: list[str]) -> int:
    """Send the inputs to the handler as one batch and print the answers; returns 0.

    An error of the handler is printed with its traceback, which is what it was run for; returns 1
    then. Raises `ServeError` when an answer is not a 2xx.
    """
    bodies = [read_body(text) for text in inputs]
    try:
        answers = run(file, [(body.content, body.content_type) for body in bodies])
    except MarwrightError:
        raise
    # Whatever the handler raises. Printed here, because Python itself cannot show the lines of
    # files that are gone.
    except Exception as error:  # noqa: BLE001
        if needed := missing(error):
            raise needed from None
        sys.stdout.flush()
        traceback.print_exc()
        return MarwrightError.exit_code
    # The handler may have printed.
    sys.stdout.flush()
    refused = []
    for text, answer in zip(inputs, answers, strict=True):
        if not 200 <= answer.status < 300:
            refused.append(f"{text}: {answer.status}: {answer.body.decode(errors='replace')}")
        elif len(inputs) == 1:
            sys.stdout.buffer.write(answer.body.rstrip(b"\n") + b"\n")
        else:
            line = b" ".join(part.strip() for part in answer.body.splitlines())
            sys.stdout.buffer.write(f"{text}: {answer.status} ".encode() + line + b"\n")
    sys.stdout.buffer.flush()
    if refused:
        raise ServeError("\n".join(refused))
    return 0
