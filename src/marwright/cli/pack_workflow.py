"""`marwright pack-workflow`: torch-workflow-archiver's options."""

from __future__ import annotations

import argparse

from marwright.cli.busy import busy
from marwright.cli.pack import add_source_options, options, show


def add_options(verb: argparse.ArgumentParser) -> None:
    """Add the options of torch-workflow-archiver 0.2, and those of ours."""
    theirs = verb.add_argument_group("as in torch-workflow-archiver")
    option = theirs.add_argument
    option("--workflow-name", required=True, metavar="NAME", help="the archive is called NAME.war")
    option("--spec-file", required=True, metavar="FILE", help="a YAML file: models and their graph")
    option("--handler", metavar="FILE", help="Python, with a function for each node that is one")
    option(
        "--extra-files", action="append", default=[], metavar="A,B",
        help="files, wildcards, and folders whose content goes to the root",
    )  # fmt: skip
    option("--export-path", default=".", metavar="DIR", help="made if it is not there")
    option("-f", "--force", action="store_true", help="replace a workflow of that name")
    ours = verb.add_argument_group("of our own")
    ours.add_argument(
        "--model-store", default="model_store", metavar="DIR",
        help="where the models are looked for; model_store without this",
    )  # fmt: skip
    add_source_options(ours)


def main(args: argparse.Namespace) -> int:
    """Pack, and say what is in the archive and what is not; returns 0."""
    from marwright.archive.workflow import pack_workflow

    with busy(f"packing {args.workflow_name}"):
        packed = pack_workflow(**options(args))
    show(packed)
    return 0
