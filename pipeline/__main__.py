"""`python -m pipeline`: the command line."""

import sys

from pipeline import streams
from pipeline.cli import main

if __name__ == "__main__":
    streams.settle()
    sys.exit(streams.end(main(sys.argv[1:])))
