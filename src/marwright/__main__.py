"""`python -m marwright`, and the console script: the command line."""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # The working folder: what a project calls `report.py` is not what a library imports.
    del sys.path[0]

from marwright.cli import streams
from marwright.cli.main import main


def run() -> int:
    """Run the command line of this process; returns its exit code."""
    streams.settle()
    return streams.end(main(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(run())
