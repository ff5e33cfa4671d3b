"""`WAR-INF/MANIFEST.json`: what TorchServe reads of a workflow, written and read here."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from msgspec import Struct

from marwright.archive.manifest import ARCHIVER, NAME, created_on
from marwright.archive.types import from_json, to_json


class ManifestWorkflow(Struct, frozen=True, kw_only=True, rename="camel"):
    """`workflow` in the manifest. `handler` is empty where every node is a model."""

    workflow_name: str
    spec_file: str
    handler: str


class WorkflowManifest(Struct, frozen=True, kw_only=True, rename="camel"):
    """The keys of torch-workflow-archiver 0.2; TorchServe refuses a workflow that lacks one."""

    workflow: ManifestWorkflow
    created_on: str
    archiver_version: str


def write_workflow_manifest(workflow: ManifestWorkflow, date: datetime) -> bytes:
    """Return the manifest's bytes."""
    created = created_on(date)
    return to_json(
        WorkflowManifest(workflow=workflow, created_on=created, archiver_version=ARCHIVER)
    )


def read_workflow_manifest(
    data: bytes, members: Collection[str]
) -> tuple[WorkflowManifest | None, list[str]]:
    """Read a manifest strictly; returns it, if it is one at all, and what is wrong with it."""
    try:
        manifest = from_json(data, WorkflowManifest)
    except ValueError as error:
        return None, [str(error)]
    workflow, problems = manifest.workflow, []
    if not NAME.fullmatch(workflow.workflow_name):
        problems.append(f"workflowName is {workflow.workflow_name!r}, which no URL can carry")
    for key, name in (("specFile", workflow.spec_file), ("handler", workflow.handler)):
        # Without a handler, TorchServe takes an empty name, and nothing else.
        if name not in members and (name or key == "specFile"):
            problems.append(f"{key} is {name!r}, which is not in the archive")
    return manifest, problems
