import json
import zipfile

import pytest

from marwright.recipe.errors import ServeError
from marwright.serve.stored import look_through
from tests.servers import write_mar


def manifest_only(path, text):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", text)


def manifest(**values):
    model = {"modelName": "x", "modelVersion": "1", "handler": "image_classifier", **values}
    return json.dumps({"runtime": "python", "model": model})


def test_archives_are_listed_by_their_manifests(tmp_path):
    write_mar(tmp_path / "digits.mar")
    write_mar(tmp_path / "other.mar", name="digits", version="2.0")
    (tmp_path / "notes.txt").write_text("no archive")
    shelf = look_through(tmp_path)
    assert [(m.name, m.version, m.path.name) for m in shelf.models] == [
        ("digits", "1.0", "digits.mar"),
        ("digits", "2.0", "other.mar"),
    ]
    assert shelf.refused == ()


def test_models_can_be_chosen(tmp_path):
    write_mar(tmp_path / "digits.mar")
    write_mar(tmp_path / "diabetes.mar")
    (tmp_path / "junk.mar").write_bytes(b"hello")
    shelf = look_through(tmp_path, ["digits"])
    assert [m.name for m in shelf.models] == ["digits"]
    assert shelf.refused == ()
    with pytest.raises(ServeError, match=r'no archive of digit; did you mean "digits"\?'):
        look_through(tmp_path, ["digit"])


@pytest.mark.parametrize("made", [True, False])
def test_an_empty_store_names_the_command(tmp_path, made):
    store = tmp_path / "model_store"
    if made:
        store.mkdir()
    with pytest.raises(ServeError, match="no archive to serve\nRun `make archive`"):
        look_through(store)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "MANIFEST.json: Input data was truncated"),
        ("[]", "Expected `object`, got `array`"),
        ('{"runtime": "python", "model": null}', "got `null` - at `$.model`"),
        (manifest(modelName="../x"), "modelName is '../x'"),
        (manifest(modelVersion=1), "got `int` - at `$.model.modelVersion`"),
        (manifest(configFile="no.yaml"), "configFile is 'no.yaml', which is not in the archive"),
    ],
)
def test_what_would_stop_the_server_is_left_out(tmp_path, text, words):
    write_mar(tmp_path / "good.mar")
    manifest_only(tmp_path / "worse.mar", text)
    shelf = look_through(tmp_path)
    assert [m.name for m in shelf.models] == ["good"]
    assert len(shelf.refused) == 1
    assert "worse.mar" in shelf.refused[0]
    assert words in shelf.refused[0]


@pytest.mark.parametrize("config", ["", "- a\n- b\n", "a: [\n"])
def test_a_configuration_that_stops_the_server_is_left_out(tmp_path, config):
    write_mar(tmp_path / "good.mar")
    write_mar(tmp_path / "worse.mar", config=config)
    assert "model-config.yaml" in look_through(tmp_path).refused[0]


def test_twins_junk_and_strange_names_are_left_out(tmp_path):
    write_mar(tmp_path / "good.mar")
    write_mar(tmp_path / "twin.mar", name="good")
    write_mar(tmp_path / "a=b.mar", name="other")
    (tmp_path / "junk.mar").write_bytes(b"hello")
    shelf = look_through(tmp_path)
    assert [m.name for m in shelf.models] == ["good"]
    said = "\n".join(shelf.refused)
    assert "good 1.0 is good.mar already" in said
    assert "junk.mar: not a zip file" in said
    assert "comma, = or space" in said


def test_a_member_that_java_cannot_name_is_left_out(tmp_path):
    path = write_mar(tmp_path / "latin.mar", extra={"XXXX.txt": b""})
    path.write_bytes(path.read_bytes().replace(b"XXXX.txt", b"caf\xe9.txt"))
    write_mar(tmp_path / "good.mar")
    assert "not ASCII" in look_through(tmp_path).refused[0]


def test_a_store_of_nothing_but_refused_archives_says_why(tmp_path):
    (tmp_path / "junk.mar").write_bytes(b"hello")
    with pytest.raises(ServeError, match=r"left out: .*junk\.mar: not a zip file"):
        look_through(tmp_path)
