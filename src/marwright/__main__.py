"""`python -m marwright`: the command line."""

import sys

from marwright.pipeline import streams
from marwright.pipeline.cli import main

if __name__ == "__main__":
    if not sys.flags.safe_path:
        # The working folder: what a project calls `report.py` is not what a library imports.
        del sys.path[0]
    streams.settle()
    sys.exit(streams.end(main(sys.argv[1:])))
