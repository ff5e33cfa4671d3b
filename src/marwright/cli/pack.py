"""`marwright pack`: torch-model-archiver's options, for models without a recipe."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING, Any

from marwright.cli.busy import busy

if TYPE_CHECKING:
    from marwright.archive.types import Packed

# Spelled out, because the parser is made for every verb and must not import the archive room.
FORMATS = ("default", "zip-store", "tgz", "no-archive")
RUNTIMES = ("python", "python3", "LSP")


def add_options(verb: argparse.ArgumentParser) -> None:
    """Add the options of torch-model-archiver 0.12, and those of ours."""
    theirs = verb.add_argument_group("as in torch-model-archiver")
    option = theirs.add_argument
    option("--model-name", required=True, metavar="NAME", help="the archive is called NAME.mar")
    option("-v", "--version", required=True, metavar="V", help="the model's version, as in 1.0")
    option(
        "--handler", required=True, metavar="HANDLER",
        help="a file, package.module:function, or the name of one of TorchServe's own",
    )  # fmt: skip
    option("--serialized-file", metavar="FILE", help="TorchScript, a state_dict, ONNX, …")
    option("--model-file", metavar="FILE", help="the model's source, for a state_dict")
    option(
        "--extra-files", action="append", default=[], metavar="A,B",
        help="files, wildcards, and folders whose content goes to the root",
    )  # fmt: skip
    option("--runtime", choices=RUNTIMES, default="python")
    option("--export-path", default=".", metavar="DIR", help="made if it is not there")
    option("--archive-format", choices=FORMATS, default="default")
    option("-f", "--force", action="store_true", help="replace an archive of that name")
    option("-r", "--requirements-file", metavar="FILE")
    option("-c", "--config-file", metavar="FILE", help="a model-config.yaml")
    add_source_options(verb.add_argument_group("of our own"))


def add_source_options(ours: argparse._ArgumentGroup) -> None:
    """Add the options that say where more of the handler's code comes from."""
    ours.add_argument(
        "--source-root", metavar="DIR",
        help="where the handler's imports are found; its own folder without this",
    )  # fmt: skip
    ours.add_argument(
        "--extra-trees", action="append", default=[], metavar="A,B",
        help="folders that keep their own name in the archive",
    )  # fmt: skip
    ours.add_argument(
        "--provided", action="append", default=[], metavar="A,B",
        help="modules that the server has, although this environment has not",
    )  # fmt: skip


def main(args: argparse.Namespace) -> int:
    """Pack, and say what is in the archive and what is not; returns 0."""
    from marwright.archive.pack import pack

    with busy(f"packing {args.model_name}"):
        packed = pack(**options(args))
    show(packed)
    return 0


def options(args: argparse.Namespace) -> dict[str, Any]:
    """Return a verb's own options: what they are called is what the function's arguments are."""
    common = ("verb", "debug", "project", "run")
    return {name: value for name, value in vars(args).items() if name not in common}


def show(packed: Packed) -> None:
    """Print what is in an archive that was packed, what is not, and how it is checked."""
    print(f"{packed.path}: {len(packed.members)} members, {packed.size / 1024:.0f} KiB, unproven")
    for name in packed.imported:
        print(f"  imported: {name}")
    for path in packed.left_out:
        print(f"  left out: {path}")
    for note in packed.notes:
        print(f"  {note}")
    # A bare word would be a model's name to `verify`.
    shown = f"./{packed.path}" if packed.path.name == str(packed.path) else str(packed.path)
    print(f"`marwright verify {shlex.quote(shown)}` loads it as TorchServe would")
