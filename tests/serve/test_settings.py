import pytest

from marwright.recipe.errors import ServeError
from marwright.serve.settings import read_settings, write_settings
from tests.servers import ROOT


def test_the_repository_keeps_strangers_out():
    settings = read_settings(ROOT / "config.properties")
    wanted = {
        "model_store": "model_store",
        "load_models": "all",
        "disable_token_authorization": "false",
        "enable_model_api": "false",
        "allowed_urls": "^$",
        "install_py_dep_per_model": "false",
        "enable_envvars_config": "false",
    }
    assert wanted.items() <= settings.items()


def test_comments_and_spaces_are_nothing(tmp_path):
    path = tmp_path / "config.properties"
    path.write_text("# a=b\n\n  key = value=with=signs  \n")
    assert read_settings(path) == {"key": "value=with=signs"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("key value\n", ":1: 'key value': write it as key=value"),
        ("a=1\nb=2 \\\n  3\n", ":2: .*on one line"),
        ("a=1\na=2\n", ":2: a is there twice"),
        ("\ufeff# a\na=1\n", ":1: begins with a byte order mark"),
        ("# caf\udce9\na=1\n", ": byte 5 is not UTF-8"),
    ],
)
def test_what_java_and_python_would_read_differently_is_refused(tmp_path, text, words):
    path = tmp_path / "config.properties"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(ServeError, match=words):
        read_settings(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ServeError, match=r"nowhere\.properties: cannot be read"):
        read_settings(tmp_path / "nowhere.properties")


def test_any_path_survives_java(tmp_path):
    path = tmp_path / "config.properties"
    write_settings(path, {"model_store": "/home/józef/🙂 back\\slash"})
    line = path.read_bytes().splitlines()[-1]
    assert line == b"model_store=/home/j\\u00f3zef/\\ud83d\\ude42 back\\\\slash"
