import json
from datetime import UTC, datetime

import pytest

from marwright.recipe.errors import ServeError
from marwright.serve.tokens import read_tokens

FILE = {
    "management": {"key": "mmm", "expiration time": "2026-01-02T00:00:00.123456789Z"},
    "inference": {"key": "iii", "expiration time": "2026-01-01T00:00:00.123456789Z"},
    "API": {"key": "aaa"},
}


def test_the_key_file_is_read_with_its_nanoseconds(tmp_path):
    path = tmp_path / "key_file.json"
    path.write_text(json.dumps(FILE))
    tokens = read_tokens(path)
    assert tokens.header("inference") == {"Authorization": "Bearer iii"}
    assert tokens.header("management") == {"Authorization": "Bearer mmm"}
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert tokens.expired("inference", noon)
    assert not tokens.expired("management", noon)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"API": 1}', '{"inference": {"key": "i"}}'])
def test_a_half_written_file_is_an_error_that_says_so(tmp_path, text):
    path = tmp_path / "key_file.json"
    path.write_text(text)
    with pytest.raises(ServeError, match="not TorchServe's key file"):
        read_tokens(path)


def test_no_key_file_names_the_command(tmp_path):
    with pytest.raises(ServeError, match="start `make serve`"):
        read_tokens(tmp_path / "key_file.json")
