import os
import stat
import subprocess
import sys

import pytest

from pipeline.serving.folders import LONGEST, Home, short_folder
from recipes.errors import ServeError
from tests.servers import ROOT


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_start_finds_clean_folders_and_keeps_the_last_logs(tmp_path):
    home = Home(path=tmp_path / "home")
    home.prepare()
    (home.logs / "ts_log.log").write_text("the run before")
    for left in (home.key_file, home.record, home.stopping):
        left.write_text("old")
    (home.path / "tmp" / "models").mkdir()
    temp = home.prepare()
    assert list(temp.iterdir()) == []
    assert list(home.logs.iterdir()) == []
    assert (home.path / "logs.before" / "ts_log.log").read_text() == "the run before"
    assert not any(left.exists() for left in (home.key_file, home.record, home.stopping))
    assert [mode(path) for path in (temp, home.logs, home.examples)] == [0o700] * 3


def test_a_folder_whose_sockets_would_be_too_long_gets_a_stand_in(tmp_path):
    wanted = tmp_path / ("x" * 100)
    folder = short_folder(wanted)
    try:
        assert len(os.fsencode(folder)) <= LONGEST
        assert mode(folder) == 0o700
        assert short_folder(wanted) == folder
        assert short_folder(tmp_path / ("y" * 100)) != folder
        folder.chmod(0o777)
        with pytest.raises(ServeError, match="open to others"):
            short_folder(wanted)
    finally:
        folder.rmdir()
        short_folder(tmp_path / ("y" * 100)).rmdir()


def test_a_stand_in_that_leads_elsewhere_is_refused(tmp_path):
    wanted = tmp_path / ("z" * 100)
    folder = short_folder(wanted)
    folder.rmdir()
    folder.symlink_to(tmp_path)
    try:
        with pytest.raises(ServeError, match="belongs to somebody else"):
            short_folder(wanted)
    finally:
        folder.unlink()


def test_the_module_prints_the_folder(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.serving.folders", tmp_path / "a"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{tmp_path / 'a'}\n"
    assert (tmp_path / "a").is_dir()
