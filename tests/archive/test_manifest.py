"""The manifest: written as torch-model-archiver does, read so that nothing stops the server."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from marwright.archive.manifest import (
    ARCHIVER,
    ManifestModel,
    Runtime,
    read_manifest,
    write_manifest,
)

DATE = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FILES = {
    "serialized_file": "model.pt",
    "model_file": "model.py",
    "requirements_file": "requirements.txt",
    "config_file": "model-config.yaml",
}


def model(**values: str) -> ManifestModel:
    given = {"model_name": "tiny", "model_version": "1.2", "handler": "handler.py", **values}
    return ManifestModel(**given)


def changed(**values: Any) -> bytes:
    """Return a healthy manifest with some keys of `model` set; None removes one."""
    manifest = json.loads(write_manifest(model(), DATE))
    told = {**manifest["model"], **values}
    manifest["model"] = {key: value for key, value in told.items() if value is not None}
    return json.dumps(manifest).encode()


def test_manifest_names_model_handler_and_files() -> None:
    assert json.loads(write_manifest(model(**FILES), DATE)) == {
        "createdOn": "02/01/2026 03:04:05",
        "runtime": "python",
        "archiverVersion": ARCHIVER,
        "model": {
            "modelName": "tiny",
            "modelVersion": "1.2",
            "handler": "handler.py",
            "serializedFile": "model.pt",
            "modelFile": "model.py",
            "requirementsFile": "requirements.txt",
            "configFile": "model-config.yaml",
        },
    }


def test_files_that_there_are_not_have_no_key() -> None:
    written = json.loads(write_manifest(model(serialized_file="model.pt"), DATE))
    assert set(written["model"]) == {"modelName", "modelVersion", "handler", "serializedFile"}


@pytest.mark.parametrize("runtime", ["python", "python3", "LSP"])
def test_what_was_written_is_read_back(runtime: Runtime) -> None:
    for told in (model(), model(**FILES)):
        manifest, problems = read_manifest(write_manifest(told, DATE, runtime), FILES.values())
        assert problems == []
        assert manifest is not None
        assert (manifest.model, manifest.runtime) == (told, runtime)


def test_bytes_depend_on_model_date_and_runtime_only() -> None:
    again = model(**dict(reversed(FILES.items())))
    assert write_manifest(model(**FILES), DATE) == write_manifest(again, DATE)
    others = (
        write_manifest(model(**FILES, model_version="1.3"), DATE),
        write_manifest(model(**FILES), DATE + timedelta(seconds=1)),
        write_manifest(model(**FILES), DATE, "LSP"),
    )
    assert len({write_manifest(model(**FILES), DATE), *others}) == 4


NAMED = {"modelName": "a", "modelVersion": "1", "handler": "h"}


@pytest.mark.parametrize(
    ("manifest", "cause"),
    [
        (b"", "truncated"),
        (b"null", "Expected `object`, got `null`"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "missing required field `model`"),
        (b'{"model": null}', "Expected `object`, got `null` - at `$.model`"),
        (b"\xff\xfe", "malformed"),
        (json.dumps({"model": NAMED}).encode(), "missing required field `runtime`"),
        (json.dumps({"model": NAMED, "runtime": "java"}).encode(), "Invalid enum value 'java'"),
        (json.dumps({"model": NAMED, "runtime": "PYTHON"}).encode(), "Invalid enum value"),
        (changed(handler=None), "missing required field `handler`"),
        (changed(modelName=1), "Expected `str`, got `int` - at `$.model.modelName`"),
        (changed(modelVersion=1.0), "Expected `str`, got `float` - at `$.model.modelVersion`"),
        (changed(serializedFile=["a"]), "Expected `str | null`, got `array`"),
        (b'{"more": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "recursion depth"),
    ],
)
def test_manifest_that_would_stop_the_server_is_refused(manifest: bytes, cause: str) -> None:
    read, (problem,) = read_manifest(manifest, [])
    assert read is None
    assert cause in problem


@pytest.mark.parametrize("key", ["modelName", "modelVersion"])
@pytest.mark.parametrize(
    "value", ["", "a b", "a/b", "../a", "a?b", "a#b", "a%b", "é", "a\n", "a\0"]
)
def test_names_and_versions_that_no_url_can_carry_are_refused(key: str, value: str) -> None:
    _, problems = read_manifest(changed(**{key: value}), [])
    assert problems == [f"{key} is {value!r}, which no URL can carry"]


@pytest.mark.parametrize("value", ["a", "1", "resnet-18", "v1.0_b", "A.b-c", "1.0+cpu", "_a", ".a"])
def test_plain_names_and_versions_pass(value: str) -> None:
    assert read_manifest(changed(modelName=value, modelVersion=value), [])[1] == []


def test_empty_handler_is_refused() -> None:
    assert read_manifest(changed(handler=""), [])[1] == ["handler is empty"]


@pytest.mark.parametrize("key", ["serializedFile", "modelFile", "requirementsFile", "configFile"])
def test_file_that_is_not_in_the_archive_is_named(key: str) -> None:
    manifest = changed(**{key: "../model.pt"})
    assert read_manifest(manifest, ["model.pt"])[1] == [
        f"{key} is '../model.pt', which is not in the archive"
    ]
    assert read_manifest(changed(**{key: "model.pt"}), ["model.pt"])[1] == []


def test_all_that_is_wrong_is_told_at_once() -> None:
    manifest = changed(modelName="a b", modelVersion="", handler="", serializedFile="gone")
    assert [problem.split()[0] for problem in read_manifest(manifest, [])[1]] == [
        "modelName", "modelVersion", "handler", "serializedFile",
    ]  # fmt: skip


def test_keys_of_other_tools_are_passed_over() -> None:
    """torch-model-archiver writes some of its own, and TorchServe ignores what it does not know."""
    told = json.loads(changed(extraFiles=None, somethingNew=[1]))
    manifest, problems = read_manifest(json.dumps({**told, "licence": "MIT"}).encode(), [])
    assert problems == []
    assert manifest is not None
    assert manifest.model == model()


def test_key_that_stands_twice_is_named() -> None:
    data = b'{"runtime": "python", "runtime": "LSP", "model": {"modelName": "m", "handler": "a",'
    data += b'"modelVersion": "1", "handler": "b"}}'
    _, problems = read_manifest(data, [])
    assert problems == [
        f"'{key}' stands in it twice, and readers differ in which counts: keep one"
        for key in ("handler", "runtime")
    ]


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        (b'"\xff"', "not UTF-8"),
        (b"1" * 5000, "limit"),
        (b"[" * 100_000 + b"]" * 100_000, "recursion"),
    ],
)
def test_key_that_nobody_reads_must_be_json_all_the_same(value: bytes, cause: str) -> None:
    model = b'{"modelName": "m", "modelVersion": "1", "handler": "a"}'
    data = b'{"runtime": "python", "model": %s, "x": %s}' % (model, value)
    manifest, [problem] = read_manifest(data, [])
    assert manifest is None
    assert cause in problem
