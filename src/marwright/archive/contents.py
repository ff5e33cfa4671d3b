"""What an archive says of itself, held against what is in it; nothing of it is run or unpacked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from marwright.archive.container.limits import most_text
from marwright.archive.container.types import Digests, Readable, Unreadable
from marwright.archive.manifest import Manifest, read_manifest
from marwright.archive.names import printable
from marwright.archive.requirements import requirement_notes
from marwright.archive.rules.config_notes import config_notes
from marwright.archive.rules.handler import handler_problems
from marwright.archive.rules.labels import label_findings
from marwright.archive.rules.root_names import root_problems
from marwright.archive.types import (
    FORMAT,
    INVENTORY,
    MANIFEST,
    PROOF,
    WORKFLOW_INVENTORY,
    WORKFLOW_MANIFEST,
    Inventory,
    Proof,
    from_json,
)
from marwright.archive.workflow_manifest import WorkflowManifest, read_workflow_manifest

if TYPE_CHECKING:
    from marwright.archive.rules.config import ModelConfig
    from marwright.archive.rules.workflow import Spec

Read = TypeVar("Read")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """What a workflow archive says: its manifest, and the models and the graph of its spec."""

    manifest: WorkflowManifest
    spec: Spec


@dataclass(slots=True, kw_only=True)
class Contents:
    """The readable members of an archive, and what is wrong with them, a line each.

    It is a model's, with a `manifest`, or a workflow's. `notes` are worth knowing and not wrong.
    """

    manifest: Manifest | None = None
    config: ModelConfig | None = None
    workflow: Workflow | None = None
    inventory: Inventory | None = None
    proof: Proof | None = None
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_contents(archive: Readable, digests: Digests | None) -> Contents:
    """Read manifest, configuration, handler, inventory and proof. Raises nothing for bad ones.

    Without `digests`, members are not held against the inventory.
    """
    contents = Contents()
    is_workflow = WORKFLOW_MANIFEST in archive.members
    inventory = WORKFLOW_INVENTORY if is_workflow else INVENTORY
    contents.inventory = _json(archive, inventory, Inventory, contents.problems)
    contents.proof = _json(archive, PROOF, Proof, contents.problems)
    if contents.inventory is not None and digests is not None:
        found = {name: digest for name, digest in digests.members.items() if name != inventory}
        contents.problems += _against_inventory(inventory, contents.inventory, found)
    if is_workflow and MANIFEST in archive.members:
        contents.problems.append(f"{MANIFEST} and {WORKFLOW_MANIFEST}: a model archive or a "
                                 "workflow, never both: pack one of each")  # fmt: skip
        return contents
    if is_workflow:
        contents.workflow = _workflow(archive, contents)
        return contents
    if MANIFEST not in archive.members:
        contents.problems.append(f"{MANIFEST}: missing; this is not a model archive")
        return contents
    contents.manifest = _manifest(archive, contents)
    claimed = contents.inventory is not None and contents.inventory.proven
    if claimed and PROOF not in archive.members:
        contents.problems.append(f"{PROOF}: missing; {INVENTORY} says that the archive is proven")
    elif not claimed and contents.proof is not None:
        contents.problems.append(f"{PROOF}: {INVENTORY} does not say that the archive is proven")
    elif contents.proof is not None and contents.manifest is not None:
        contents.problems += _against_proof(contents.proof, contents.manifest)
    return contents


def _json(archive: Readable, name: str, kind: type[Read], problems: list[str]) -> Read | None:
    if name not in archive.members:
        return None
    try:
        return from_json(archive.read(name), kind)
    except Unreadable as error:
        problems.append(str(error))
    except ValueError as error:
        problems.append(f"{name}: {error}")
    return None


def _manifest(archive: Readable, contents: Contents) -> Manifest | None:
    def read(name: str) -> bytes | None:
        return archive.read(name) if name in archive.members else None

    def read_included(name: str) -> bytes | None:
        # A line of it may name anything, also a large file.
        return read(name) if archive.members.get(name, 0) <= most_text(name) else None

    try:
        manifest, problems = read_manifest(archive.read(MANIFEST), archive.members)
        contents.problems += [f"{MANIFEST}: {problem}" for problem in problems]
        if manifest is None:
            return None
        config = manifest.model.config_file
        if config is not None and config in archive.members:
            # YAML takes longer to import than many an archive to write.
            from marwright.archive.rules.config import read_config

            contents.config, problems = read_config(archive.read(config))
            contents.problems += [f"{config}: {problem}" for problem in problems]
            contents.notes += [f"{config}: {note}" for note in config_notes(contents.config.values)]
            if contents.config.handler_keys:
                # Whatever a stranger's file has there goes to somebody's terminal.
                keys = ", ".join(map(printable, contents.config.handler_keys))
                contents.notes.append(f"{config}: read by the handler only: {keys}")
        packages = manifest.model.requirements_file
        if packages is not None and packages in archive.members:
            data = archive.read(packages)
            contents.notes += requirement_notes(data, packages, read_included)
        if manifest.runtime != "LSP":
            contents.problems += root_problems(archive.members)
            contents.problems += handler_problems(manifest.model.handler, read)
            problems, notes = label_findings(manifest.model.handler, read)
            contents.problems += problems
            contents.notes += notes
    except Unreadable as error:
        contents.problems.append(str(error))
        return None
    return manifest


def _workflow(archive: Readable, contents: Contents) -> Workflow | None:
    from marwright.archive.rules.workflow import node_problems, notes_on, read_spec

    def read(name: str) -> bytes | None:
        return archive.read(name) if name in archive.members else None

    if contents.inventory is not None and contents.inventory.proven:
        contents.problems.append(f"{WORKFLOW_INVENTORY}: says that it is proven; only models are")
    try:
        data = archive.read(WORKFLOW_MANIFEST)
        manifest, problems = read_workflow_manifest(data, archive.members)
        contents.problems += [f"{WORKFLOW_MANIFEST}: {problem}" for problem in problems]
        if manifest is None or (text := read(manifest.workflow.spec_file)) is None:
            return None
        spec, problems = read_spec(text)
        contents.problems += [f"{manifest.workflow.spec_file}: {problem}" for problem in problems]
        if not problems:
            contents.problems += node_problems(spec, manifest.workflow.handler, read)
            contents.notes += notes_on(spec, manifest.workflow.handler)
    except Unreadable as error:
        contents.problems.append(str(error))
        return None
    return Workflow(manifest=manifest, spec=spec)


def _against_inventory(where: str, inventory: Inventory, found: dict[str, str]) -> Iterator[str]:
    if inventory.format != FORMAT:
        yield f"{where}: format {inventory.format}; only {FORMAT} is known here"
    for name in sorted(inventory.members.keys() | found.keys()):
        recorded, actual = inventory.members.get(name), found.get(name)
        if actual is None:
            yield f"{name}: missing; {where} records it"
        elif recorded is None:
            yield f"{name}: extra; {where} does not record it"
        elif recorded != actual:
            yield f"{name}: changed; its SHA-256 is {actual[:12]}…, recorded is {recorded[:12]}…"


def _against_proof(proof: Proof, manifest: Manifest) -> Iterator[str]:
    if not proof.parity.ok:
        yield f"{PROOF}: the parity gate that it records did not pass"
    if not proof.answers.ok:
        yield f"{PROOF}: the handler's answers that it records were not right"
    said = {"modelName": manifest.model.model_name, "modelVersion": manifest.model.model_version}
    for key, declared in (("modelName", "name"), ("modelVersion", "version")):
        if said[key] != proof.recipe.get(declared):
            yield (
                f"{MANIFEST}: {key} is {said[key]!r}, {PROOF} says {proof.recipe.get(declared)!r}"
            )
