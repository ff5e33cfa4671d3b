import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from marwright.serve.readiness import Progress, Watch, traceback_of, verdict
from marwright.serve.screen import pending
from marwright.serve.stored import StoredModel

MODEL = StoredModel(name="digits", version="1.0", path=Path("/store/digits.mar"))
OTHER = StoredModel(name="digits_b", version="1.0", path=Path("/store/digits_b.mar"))


def log(thread, *lines):
    return "".join(
        f"2026-01-01T00:00:00,000 [INFO ] {thread} MODEL_LOG - {line}\n" for line in lines
    )


LOADING = (
    "model_name: digits, batchSize: 1",
    "Failed to load model digits, exception No module named 'x'",
    "Traceback (most recent call last):",
    '  File "/venv/ts/model_loader.py", line 153, in _load_handler_file',
    "    module = importlib.import_module(module_name)",
    "             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
    f'  File "/tmp/models/{"0f" * 16}/handlers/own.py", line 2, in <module>',
    "    import x",
    "ModuleNotFoundError: No module named 'x'",
    "",
    "During handling of the above exception, another exception occurred:",
    "",
    "Traceback (most recent call last):",
    "ModuleNotFoundError: No module named 'ts.torch_handler.handlers'",
    "Backend worker process died.",
    "Traceback (most recent call last):",
    "RuntimeError: 500 - Unknown exception",
)


def test_the_cause_is_the_archives_own_line_and_not_what_hides_it():
    text = log("W-9000-digits_1.0-stdout", *LOADING) + log("W-9001-digits_b_1.0-stdout", "fine")
    assert traceback_of(MODEL, text) == (
        '  File "<archive>/handlers/own.py", line 2, in <module>\n'
        "    import x\n"
        "ModuleNotFoundError: No module named 'x'"
    )
    assert traceback_of(OTHER, text) is None


def test_workers_whose_lines_interleave_are_kept_apart():
    threads = ("W-9000-digits_1.0-stdout", "W-9001-digits_1.0-stdout")
    text = "".join(log(thread, line) for line in LOADING for thread in threads)
    cause = traceback_of(MODEL, text)
    assert cause is not None
    assert cause.count("ModuleNotFoundError") == 1


def test_a_traceback_before_any_loading_is_the_cause_too():
    said = ("Traceback (most recent call last):", "ModuleNotFoundError: No module named 'yaml'")
    text = log("W-9000-digits_1.0-stderr", *said)
    assert traceback_of(MODEL, text) == "\n".join(said)


@pytest.mark.parametrize(
    ("workers", "ready", "settled"),
    [((0, 0), False, False), ((2, 1), False, False), ((2, 2), True, True)],
)
def test_ready_means_all_workers(workers, ready, settled):
    one = Progress(model=MODEL, wanted=workers[0], ready=workers[1])
    assert (one.is_ready, one.is_settled) == (ready, settled)


def test_what_a_person_reads():
    one = Progress(model=MODEL, wanted=2, ready=1, seconds=3.0)
    assert pending([one]) == "waiting for digits (1 of 2 workers)"
    one.ready = 2
    assert pending([one]) == ""
    assert verdict(one) == "digits 1.0: READY with 2 workers after 3.0 s"
    one.cause = "a\nb"
    assert verdict(one) == "digits 1.0: not served, after 3.0 s:\n    a\n    b"


def test_a_server_that_has_ended_is_not_waited_for(tmp_path):
    watch = Watch(url="http://127.0.0.1:1", logs=tmp_path, models=[MODEL], running=lambda: False)
    [one] = watch.settle(lambda: None, 60.0, lambda _: None)
    assert not one.is_settled


def test_a_model_that_nobody_describes_fails_at_the_deadline(tmp_path):
    watch = Watch(url="http://127.0.0.1:1", logs=tmp_path, models=[MODEL], running=lambda: True)
    [one] = watch.settle(lambda: None, 0.1, lambda _: None)
    assert one.cause == "0 of ? workers READY after 0.1 s"


@contextmanager
def describing(described):
    """A management API that has this to say of every model: its URL."""

    class Management(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps([described]).encode())

        do_PUT = do_GET

        def log_message(self, *_):
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Management) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


# Seen of a real TorchServe on a busy machine: the worker's output was no longer read when it died,
# in two attempts of two. Its timing is not to be had at will, so its logs are written here.
@pytest.mark.parametrize("lost", [1, 2, 9])
def test_a_traceback_that_is_lost_at_first_is_waited_for(tmp_path, lost):
    thread = "W-9000-digits_1.0"
    attempts = 0

    def attempt(_):
        nonlocal attempts
        attempts += 1
        with (tmp_path / "ts_log.log").open("a") as ts_log:
            ts_log.write(log(thread, "Auto recovery failed again"))
        with (tmp_path / "model_log.log").open("a") as model_log:
            model_log.write(log(f"{thread}-stdout", *LOADING[: 1 if attempts <= lost else None]))

    with describing({"minWorkers": 1, "workers": [{"status": "UNLOADING"}]}) as url:
        watch = Watch(url=url, logs=tmp_path, models=[MODEL], running=lambda: True)
        [one] = watch.settle(lambda: None, 60.0, attempt)
    if lost < 3:
        assert one.cause.endswith("No module named 'x'")
    else:
        assert one.cause.startswith("its worker dies while it loads")
    assert attempts == min(lost + 1, 3) + 1
