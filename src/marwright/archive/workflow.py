"""Pack a workflow of several models, with torch-workflow-archiver's options: checked first.

from marwright.archive.workflow import pack_workflow

packed = pack_workflow(
    workflow_name="read_plates", spec_file="plates.yaml", handler="plates.py",
    export_path="workflow_store", model_store="model_store",
)
print(packed.path, packed.notes)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from marwright.archive.container.open import open_archive
from marwright.archive.container.writer import Content
from marwright.archive.gather import File, Members, split_commas
from marwright.archive.imports import follow
from marwright.archive.manifest import NAME
from marwright.archive.needed import check_imports
from marwright.archive.refusals import check_target, failures_told, raise_for
from marwright.archive.rules.config import read_config
from marwright.archive.rules.workflow import Spec, SpecModel, node_problems, notes_on, read_spec
from marwright.archive.store import read_model
from marwright.archive.types import WORKFLOW_INVENTORY, WORKFLOW_MANIFEST, Packed
from marwright.archive.workflow_manifest import ManifestWorkflow, write_workflow_manifest
from marwright.archive.write import archive_date, check_names, write_archive
from marwright.recipe.errors import PackError, VerifyError
from marwright.recipe.suggest import suggestion


def pack_workflow(
    *,
    workflow_name: str,
    spec_file: File,
    handler: File | None = None,
    extra_files: File | Iterable[File] = (),
    extra_trees: File | Iterable[File] = (),
    export_path: File = ".",
    force: bool = False,
    model_store: File = "model_store",
    source_root: File | None = None,
    provided: str | Iterable[str] = (),
) -> Packed:
    """Write a workflow archive; the options are those of torch-workflow-archiver 0.2.

    Models are looked for in `model_store`. `extra_trees` are folders that keep their own name;
    imports are followed from `source_root` (the handler's folder without it); `provided` names
    modules that the server has and this environment has not. Lists may be comma-separated text.
    Everything is checked before anything is written: raises `PackError` for whatever would be
    refused, ignored or misread later, and then leaves an archive that is there already as it is.
    The archive carries no proof.
    """
    if not NAME.fullmatch(workflow_name):
        raise PackError(
            f"--workflow-name {workflow_name!r}: letters, digits, '.', '_' and '-' only"
        )
    target = Path(export_path) / f"{workflow_name}.war"
    with failures_told(target):
        check_target(target, "default", force)
        members = Members(target)
        workflow = ManifestWorkflow(
            workflow_name=workflow_name,
            spec_file=members.add_file(Path(spec_file), "--spec-file"),
            handler="" if handler is None else members.add_file(Path(handler), "--handler"),
        )
        for text in split_commas(extra_files):
            members.add_extra(text)
        for text in split_commas(extra_trees):
            members.add_named_tree(text)
        named = set(members.files)
        spec = _read(Path(spec_file))
        notes = list[str]()
        if handler is not None:
            followed = [follow(members, Path(handler), source_root)]
            given = split_commas(provided)
            notes += check_imports(followed, members.files, None, given, installs=False)
        contents: dict[str, Content] = dict(members.files)
        contents[WORKFLOW_MANIFEST] = write_workflow_manifest(workflow, archive_date())
        check_names([*contents, WORKFLOW_INVENTORY])
        raise_for(node_problems(spec, workflow.handler, members.read))
        notes += notes_on(spec, workflow.handler) + _look_up(spec, Path(model_store))
        artifact = write_archive(
            target, contents, proven=False, inventory=WORKFLOW_INVENTORY, force=force
        )
    return Packed(
        path=target,
        size=artifact.size,
        members=tuple(artifact.members),
        imported=tuple(sorted(members.files.keys() - named)),
        left_out=tuple(members.left_out),
        notes=tuple(notes),
    )


def _read(file: Path) -> Spec:
    spec, problems = read_spec(file.read_bytes())
    raise_for(f"--spec-file {file}: {problem}" for problem in problems)
    return spec


def _look_up(spec: Spec, store: Path) -> list[str]:
    """Find every model in the store; returns what is worth knowing of them.

    Raises `PackError` for those that are not there, or that `verify` would refuse.
    """
    problems, notes = list[str](), list[str]()
    for name, model in spec.models.items():
        if model.is_remote:
            continue
        archive = store / model.url
        if not archive.exists():
            problems.append(f"models.{name}.url: {archive}: no such file{_alike(archive)}")
            continue
        try:
            config = read_model(archive).config_file
        except VerifyError as error:
            lines = str(error).splitlines()
            problems += [f"models.{name}.url: {archive}: {line}" for line in lines]
        else:
            notes += [f"models.{name}: {line}" for line in _told_twice(model, archive, config)]
    raise_for(problems)
    return notes


def _alike(archive: Path) -> str:
    store = archive.parent
    if not store.is_dir():
        return f"; {store} is no folder: name the model store with --model-store"
    return suggestion(archive.name, (path.name for path in store.glob("*.mar")))


def _told_twice(model: SpecModel, archive: Path, config: str | None) -> Iterator[str]:
    """Say which settings of the model's own archive do not count in the workflow, and which do."""
    if config is None:
        return
    with open_archive(archive) as opened:
        own = read_config(opened.read(config))[0].values
    for theirs, ours in (("batchSize", "batch-size"), ("maxBatchDelay", "max-batch-delay")):
        if own.get(theirs, model.settings[ours]) != model.settings[ours]:
            yield (
                f"{ours} is {model.settings[ours]} in this workflow, not {own[theirs]}, the "
                f"{theirs} in {model.url}"
            )
    workers = model.settings["max-workers"]
    if own.get("minWorkers", workers) != workers:
        yield f"has {own['minWorkers']} workers, the minWorkers in {model.url}, not {workers}"
