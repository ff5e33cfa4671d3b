"""`python -m pipeline`: the command line."""

import sys

from marwright.pipeline import streams
from marwright.pipeline.cli import main

if __name__ == "__main__":
    streams.settle()
    sys.exit(streams.end(main(sys.argv[1:])))
