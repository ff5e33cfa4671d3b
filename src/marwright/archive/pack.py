"""Pack any model, with torch-model-archiver's options: checked first, written once, unproven.

from marwright import pack

packed = pack(
    model_name="digits", version="1.0", serialized_file="model.pt", handler="handler.py",
    extra_files=["labels.json"], export_path="model_store",
)
print(packed.path, packed.left_out)
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from marwright.archive.container.limits import MAX_TEXT
from marwright.archive.container.writer import Content
from marwright.archive.gather import File, Members, split_commas
from marwright.archive.imports import follow
from marwright.archive.manifest import NAME, ManifestModel, Runtime, write_manifest
from marwright.archive.needed import check_imports
from marwright.archive.refusals import check_contents, check_target, failures_told, raise_for
from marwright.archive.requirements import Requirements, member_reader, read_requirements
from marwright.archive.rules.handler import STOCK
from marwright.archive.rules.stock import stock_problems
from marwright.archive.scan import scan
from marwright.archive.types import INVENTORY, MANIFEST, Packed
from marwright.archive.write import (
    FORMATS,
    SUFFIXES,
    ArchiveFormat,
    archive_date,
    budget_of,
    check_names,
    write_archive,
)
from marwright.recipe.errors import PackError
from marwright.recipe.regular import read_regular

# What TorchServe's C++ backend brings itself.
_STOCK_LSP = frozenset({"BaseHandler", "TorchScriptHandler"})


def pack(
    *,
    model_name: str,
    version: str,
    handler: str,
    serialized_file: File | None = None,
    model_file: File | None = None,
    extra_files: File | Iterable[File] = (),
    extra_trees: File | Iterable[File] = (),
    runtime: Runtime = "python",
    export_path: File = ".",
    archive_format: ArchiveFormat = "default",
    force: bool = False,
    requirements_file: File | None = None,
    config_file: File | None = None,
    source_root: File | None = None,
    provided: str | Iterable[str] = (),
) -> Packed:
    """Write a model archive; the options are those of torch-model-archiver 0.12.

    `extra_trees` are folders that keep their own name; imports are followed from `source_root`
    (the handler's folder without it); `provided` names modules that the server has and this
    environment has not. Lists may be comma-separated text. Everything is checked before anything
    is written: raises `PackError` for whatever would fail, be lost or be misread later, and then
    leaves an archive that is there already as it is. The archive carries no proof.
    """
    for option, value in (("--model-name", model_name), ("--version", version)):
        if not NAME.fullmatch(value):
            raise PackError(
                f"{option} {value!r}: letters, digits, '.', '_' and '-' only, as in 1.0"
            )
    for option, value, known in (
        ("--runtime", runtime, get_args(Runtime)),
        ("--archive-format", archive_format, FORMATS),
    ):
        if value not in known:
            raise PackError(f"{option} {value!r}: one of {', '.join(known)}")
    target = Path(export_path) / f"{model_name}{SUFFIXES[archive_format]}"
    with failures_told(target):
        check_target(target, archive_format, force)
        members, notes = Members(target), list[str]()
        files = {
            "serialized_file": _add(members, serialized_file, "--serialized-file"),
            "model_file": _add(members, model_file, "--model-file"),
            "requirements_file": _add(members, requirements_file, "--requirements-file"),
            "config_file": _add(members, config_file, "--config-file"),
        }
        for text in split_commas(extra_files):
            members.add_extra(text)
        for text in split_commas(extra_trees):
            members.add_named_tree(text)
        entry = _add_handler(members, handler, runtime, source_root)
        named = set(members.files)
        # What was named comes first, as it will at the server.
        followed = [] if entry is None else [follow(members, entry, source_root)]
        if model_file is not None and runtime != "LSP":
            followed.append(follow(members, Path(model_file), source_root))
        requirements = _requirements(members, files["requirements_file"], requirements_file, notes)
        notes += check_imports(followed, members.files, requirements, split_commas(provided))
        raise_for(stock_problems(handler, _path(model_file), _path(serialized_file)))
        contents: dict[str, Content] = dict(members.files)
        if config_file is not None:
            contents[Path(config_file).name] = _config(Path(config_file))
        model = ManifestModel(
            model_name=model_name,
            model_version=version,
            handler=_manifest_handler(handler),
            **files,
        )
        contents[MANIFEST] = write_manifest(model, archive_date(), runtime)
        # The rules that `verify` will hold it against.
        check_names([*contents, INVENTORY])
        budget = budget_of(contents, archive_format)
        notes += check_contents(contents)
        scanned = scan(members.files, files["serialized_file"], budget)
        raise_for(f"--serialized-file {serialized_file}: {line}" for line in scanned.problems)
        notes += [*scanned.notes, *(f"not checked: {line}" for line in scanned.unchecked)]
        artifact = write_archive(target, contents, proven=False, format=archive_format, force=force)
    return Packed(
        path=target,
        size=artifact.size,
        members=tuple(artifact.members),
        imported=tuple(sorted(members.files.keys() - named)),
        left_out=tuple(members.left_out),
        notes=tuple(notes),
    )


def _path(file: File | None) -> Path | None:
    return None if file is None else Path(file)


def _add(members: Members, file: File | None, option: str) -> str | None:
    return None if file is None else members.add_file(Path(file), option)


def _add_handler(
    members: Members, handler: str, runtime: Runtime, source_root: File | None
) -> Path | str | None:
    """Take the handler; returns what to follow: its file, or its path below the source root."""
    path, _, _ = handler.partition(":")
    if runtime == "LSP":
        if handler not in _STOCK_LSP:
            suffix = ".dylib" if sys.platform == "darwin" else ".so"
            members.add_file(Path(path if path.endswith(suffix) else path + suffix), "--handler")
        return None
    if handler in STOCK:
        return None
    file = Path(path if path.endswith(".py") else f"{path}.py")
    if file.exists():
        members.add_file(file, "--handler")
        return file
    root = Path(source_root or ".")
    dotted = f"{path.replace('.', '/')}.py"
    if path.endswith(".py") or "/" in path or not (root / dotted).is_file():
        raise PackError(
            f"--handler {handler}: there is no file {file} and no module {root / dotted}; "
            f"TorchServe's own are {', '.join(sorted(STOCK))}"
        )
    members.add(dotted, root / dotted)
    return dotted


def _requirements(
    members: Members, name: str | None, file: File | None, notes: list[str]
) -> Requirements | None:
    if name is None:
        return None
    read = member_reader(members.files, MAX_TEXT)
    requirements = read_requirements(members.read(name) or b"", str(file), read)
    raise_for(requirements.problems)
    notes += requirements.notes
    return requirements


def _manifest_handler(handler: str) -> str:
    """Return what torch-model-archiver writes: the last part of the path."""
    return handler.rpartition("/")[2]


def _config(file: Path) -> bytes:
    data = read_regular(file, MAX_TEXT)
    # YAML takes longer to import than many an archive to write.
    from marwright.archive.rules.config import completed, read_config

    _, problems = read_config(data)
    raise_for(f"--config-file {file}: {problem}" for problem in problems)
    return completed(data)
