"""model-config.yaml: what TorchServe would ignore, replace or stop on is named in a line."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import yaml
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from marwright.archive.model_config import model_config
from marwright.archive.rules.config import TIMEOUTS, completed, read_config
from marwright.archive.rules.config_notes import parallel_problems
from marwright.archive.rules.plain_yaml import LIMIT
from marwright.recipe.load import load_recipe
from tests.projects import ROOT

STOPS = "which can stop the whole server"
WRITE_KEYS = "write keys and values, as `batchSize: 1`"
QUOTE = "put it in quotes"
BEYOND_TEXT = "write a plain value, and text in quotes"
ALIASES = (
    "more than 50 aliases, or one to what holds one, and such files can grow without end: "
    "write them out"
)
ALL_TIMEOUTS = "responseTimeout: 120\nstartupTimeout: 120\nmaxRetryTimeoutInSec: 300\n"
COMMENT = (
    "# TorchServe's own defaults: with this file here, it does not ask config.properties for these."
)


def problems(text: str | bytes) -> list[str]:
    return read_config(text.encode() if isinstance(text, str) else text)[1]


def values(text: str) -> dict[str, Any]:
    return read_config(text.encode())[0].values


def test_a_healthy_file_is_read_whole() -> None:
    text = (
        "minWorkers: 1\nmaxWorkers: 2\nbatchSize: 8  # requests\nmaxBatchDelay: 10\n"
        "deviceType: GPU\ndeviceIds: [0, 1]\nuseVenv: no\n"
        "torchrun: {nproc-per-node: 2, OMP_NUMBER_THREADS: 4, rdzv-endpoint: 'host:29500'}\n"
        "tokenizer: bert\nhandler: {top_k: 5, labels: {0: cat, 1.5: dog}}\n"
    )
    config, found = read_config(text.encode())
    assert found == []
    assert config.values == yaml.safe_load(text)
    assert config.handler_keys == ("handler", "tokenizer")


@pytest.mark.parametrize("recipe", sorted((ROOT / "archive").glob("*.toml")), ids=lambda p: p.stem)
def test_what_our_own_archives_carry_passes_and_is_complete(recipe: Any) -> None:
    written = model_config(load_recipe(recipe))
    config, found = read_config(written)
    assert found == []
    assert config.handler_keys == ("handler",)
    assert completed(written) == written


def test_torch_is_not_imported() -> None:
    code = "import sys, marwright.archive.rules.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize(
    "key",
    ["handler", "pt2", "pippy", "deepspeed", "micro_batching", "parallelism", "model_path",
     "max_length", "max_new_tokens", "torch_dtype", "device", "tokenizer", "batch", "workers",
     "timeout", "profile", "dali", "max_batch_size", "vllm_engine_config", "adapters", "é", "y"],
)  # fmt: skip
def test_keys_of_handlers_pass(key: str) -> None:
    config, found = read_config(f"{key}: 1\n".encode())
    assert found == []
    assert config.handler_keys == (key,)


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("batch_size", "batchSize"),
        ("batch-size", "batchSize"),
        ("batch size", "batchSize"),
        ("batchsize", "batchSize"),
        ("BatchSize", "batchSize"),
        ("bacthSize", "batchSize"),
        ("min_workers", "minWorkers"),
        ("minWorker", "minWorkers"),
        ("maxBatchDelays", "maxBatchDelay"),
        ("respnseTimeout", "responseTimeout"),
        ("startup_timeout", "startupTimeout"),
        ("clientTimeoutInMillis", "clientTimeoutInMills"),
        ("torchRun", "torchrun"),
        ("device_type", "deviceType"),
    ],
)
def test_near_miss_of_a_key_is_told_from_a_handlers_key(key: str, known: str) -> None:
    config, found = read_config(f"{key}: 8\n".encode())
    assert found == [
        f"{key}: TorchServe knows {known}, and ignores this spelling: write {known}, "
        "or move a handler's key under `handler`"
    ]
    assert config.handler_keys == ()
    assert config.values == {key: 8}


NOT_WHOLE = "is not a whole number, and TorchServe takes"
SERVERS = "the server's own number of workers"
QUEUE = "job_queue_size of config.properties"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('batchSize: "8"', f"'8' {NOT_WHOLE} 1: write a bare 8"),
        ("batchSize: 8.0", f"8.0 {NOT_WHOLE} 1: write a bare 8"),
        ("batchSize: 08", f"'08' {NOT_WHOLE} 1: write a bare 8"),
        ("batchSize: 8.5", f"8.5 {NOT_WHOLE} 1: write a whole number, 1 or more"),
        ("batchSize: 1e1", f"'1e1' {NOT_WHOLE} 1: write a whole number, 1 or more"),
        ("batchSize: true", f"true {NOT_WHOLE} 1: write a whole number, 1 or more"),
        ("batchSize:", f"null {NOT_WHOLE} 1: write a whole number, 1 or more"),
        ("batchSize: [8]", f"[8] {NOT_WHOLE} 1: write a whole number, 1 or more"),
        ("batchSize: .inf", f"inf {NOT_WHOLE} 1: write a whole number, 1 or more"),
        ("batchSize: 0", "0 is less than 1, and TorchServe takes 1: write 1 or more"),
        ("batchSize: 2147483648", "2147483648 is too large for TorchServe: "
                                  "write 2147483647 at most"),
        ("maxBatchDelay: 0", "0 is less than 1, and TorchServe takes 100: write 1 or more"),
        ("maxBatchDelay: '10'", f"'10' {NOT_WHOLE} 100: write a bare 10"),
        ("responseTimeout: 0", "0 is less than 1, and TorchServe takes 120: write 1 or more"),
        ("startupTimeout: -1", "-1 is less than 1, and TorchServe takes 120: write 1 or more"),
        ("parallelLevel: -1", "-1 is less than 0, and TorchServe takes 0: write 0 or more"),
        ("maxRetryTimeoutInSec: -1", "-1 is less than 0, and TorchServe takes 0: write 0 or more"),
        ("maxRetryTimeoutInSec: no", f"false {NOT_WHOLE} 300: write a whole number, 0 or more"),
        ("maxRetryTimeoutInSec: 2147484", "2147484 is too large for TorchServe: "
                                          "write 2147483 at most"),
        ("clientTimeoutInMills: -5", "-5 is less than 0, and TorchServe takes 0: write 0 or more"),
        ("jobQueueSize: 0", f"0 is less than 1, and TorchServe takes {QUEUE}: write 1 or more"),
        ("sequenceMaxIdleMSec: x", f"'x' {NOT_WHOLE} 0: write a whole number, 0 or more"),
        ("sequenceTimeoutMSec: x", f"'x' {NOT_WHOLE} 0: write a whole number, 0 or more"),
        ("maxSequenceJobQueueSize: 0", "0 is less than 1, and TorchServe takes 1: "
                                       "write 1 or more"),
        ("maxNumSequence: 0", "0 is less than 1, and TorchServe takes 1: write 1 or more"),
        ("deviceType: cuda", "'cuda' is none of cpu, gpu, and TorchServe ignores it: "
                             "write one of them"),
        ("deviceType: 0", "0 is none of cpu, gpu, and TorchServe ignores it: write one of them"),
        ("parallelType: dp", "'dp' is none of pp, tp, pptp, custom, and TorchServe ignores it: "
                             "write one of them"),
        ("deviceIds: 0", "0 is not a list, and TorchServe ignores it: "
                         "write a list of numbers, as `[0]`"),
        ("deviceIds: [0, '1']", f"'1' {NOT_WHOLE} no device of the list: write a bare 1"),
        ("deviceIds: [-1]", "-1 is less than 0, and TorchServe takes no device of the list: "
                            "write 0 or more"),
        ("useVenv: 'true'", "'true' is not true or false, and TorchServe takes false: "
                            "write one of them, without quotes"),
        ("useJobTicket: 1", "1 is not true or false, and TorchServe takes false: "
                            "write one of them, without quotes"),
        ("torchrun: 2", "2 is not a mapping, and TorchServe ignores it: "
                        "write keys under it, as `nproc-per-node: 1`"),
    ],
)  # fmt: skip
def test_value_that_torchserve_would_replace_is_named(line: str, problem: str) -> None:
    key = line.partition(":")[0]
    assert problems(f"{line}\n") == [f"{key}: {problem}"]


@pytest.mark.parametrize(
    "line",
    ["batchSize: 1", "batchSize: 2147483647", "maxBatchDelay: 1", "responseTimeout: 1",
     "startupTimeout: 1", "parallelLevel: 0", "maxRetryTimeoutInSec: 0",
     "maxRetryTimeoutInSec: 2147483", "clientTimeoutInMills: 0", "jobQueueSize: 1",
     "sequenceMaxIdleMSec: 0", "sequenceTimeoutMSec: 0", "maxSequenceJobQueueSize: 1",
     "maxNumSequence: 1", "deviceIds: [0]", "deviceIds: []", "torchrun: {nnodes: 1}",
     "torchrun: {nproc-per-node: 1}", "torchrun: {monitor-interval: 1}",
     "torchrun: {node-rank: 0}", "torchrun: {OMP_NUMBER_THREADS: 1}", f"number: {'9' * 100}"],
)  # fmt: skip
def test_the_least_and_the_most_pass(line: str) -> None:
    assert problems(f"{line}\n") == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("nnodes: 0", "nnodes: 0 is less than 1, and TorchServe takes 1: write 1 or more"),
        ("nproc-per-node: '2'", f"nproc-per-node: '2' {NOT_WHOLE} 1: write a bare 2"),
        ("monitor-interval: 0", "monitor-interval: 0 is less than 1, and TorchServe takes 5: "
                                "write 1 or more"),
        ("node-rank: -1", "node-rank: -1 is less than 0, and TorchServe takes 0: write 0 or more"),
        ("OMP_NUMBER_THREADS: 0", "OMP_NUMBER_THREADS: 0 is less than 1, and TorchServe takes 1: "
                                  "write 1 or more"),
        ("rdzv-endpoint: 29500", "rdzv-endpoint: 29500 is not text, and TorchServe ignores it: "
                                 "write it in quotes"),
        ("nproc_per_node: 2", "nproc_per_node: TorchServe ignores it; "
                              'did you mean "nproc-per-node"?'),
        ("max-restarts: 3", "max-restarts: TorchServe ignores it; known: OMP_NUMBER_THREADS, "
                            "monitor-interval, nnodes, node-rank, nproc-per-node, rdzv-backend, "
                            "rdzv-conf, rdzv-endpoint"),
        ("1: 2", f"1: YAML reads this key as int, not as text, {STOPS}: {QUOTE}"),
    ],
)  # fmt: skip
def test_torchrun_is_held_to_its_own_keys(line: str, problem: str) -> None:
    assert problems(f"torchrun:\n  {line}\n") == [f"torchrun.{problem}"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("minWorkers: 1\nmaxWorkers: 1\n", []),
        ("minWorkers: 2\n", ["minWorkers: TorchServe ignores it without maxWorkers: "
                             "write maxWorkers as well"]),
        ("maxWorkers: 2\n", ["maxWorkers: TorchServe ignores it without minWorkers: "
                             "write minWorkers as well"]),
        ("maxWorkers: 2\nminWorkers: 4\n", [
            "minWorkers: 4 is more than maxWorkers, 2, and TorchServe ignores both: "
            "write maxWorkers: 4 or more"]),
        ("minWorkers: 0\nmaxWorkers: -1\n", [
            "minWorkers: 0 is less than 1, and TorchServe takes 1: write 1 or more",
            f"maxWorkers: -1 is less than 1, and TorchServe takes {SERVERS}: write 1 or more"]),
        ("minWorkers: -3000000000\nmaxWorkers: 1\n", [
            f"minWorkers: -3000000000 is less than 1, and TorchServe takes {SERVERS}: "
            "write 1 or more"]),
        ("minWorkers: '2'\nmaxWorkers: 1\n", [
            f"minWorkers: '2' {NOT_WHOLE} {SERVERS}: write a bare 2"]),
    ],
)  # fmt: skip
def test_workers_come_in_pairs(text: str, found: list[str]) -> None:
    assert problems(text) == found


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", f"empty, {STOPS}: {WRITE_KEYS}"),
        (b"# nothing yet\n", f"empty, {STOPS}: {WRITE_KEYS}"),
        (b"---\n", f"empty, {STOPS}: {WRITE_KEYS}"),
        (b"- batchSize\n", f"a list, {STOPS}: {WRITE_KEYS}"),
        (b"batchSize\n", f"a single value, {STOPS}: {WRITE_KEYS}"),
        (b"a: 1\nb: \xe9\n", "line 2: not UTF-8: save the file as UTF-8"),
        ("a: 1\n".encode("utf-16"), "line 1: not UTF-8: save the file as UTF-8"),
        (b"a: 1\nb: '\x07'\n", "line 2: not YAML: a control character: remove it"),
        (b"a: 1\nb: c: d\n", "line 2: not YAML: mapping values are not allowed here"),
        (b"a: 1\n\tb: 2\n", "line 2: not YAML: while scanning for the next token, "
                            "found character '\\t' that cannot start any token"),
        (b"a: [1\n", "line 2: not YAML: while parsing a flow sequence, "
                     "expected ',' or ']', but got '<stream end>'"),
        (b"a: *b\n", "line 1: not YAML: found undefined alias 'b'"),
        (b'a: "\\U00110000"\n', "not YAML: chr() arg not in range(0x110000)"),
        (b"a: 1\n---\nb: 2\n", "more than one document, which TorchServe refuses: keep one"),
        (b"--- !!python/object:os.x {a: 1}\n", "the tag tag:yaml.org,2002:python/object:os.x asks "
                                               "for no plain mapping: remove it"),
        (b"a: " + b"[" * 50 + b"1" + b"]" * 50, "more than 50 levels, which TorchServe refuses: "
                                                "use fewer"),
        (b"a: " + b"[" * 10_000, "more than 50 levels, which TorchServe refuses: use fewer"),
        (b"- " * 10_000, "more than 50 levels, which TorchServe refuses: use fewer"),
        (b"a: 1\nb: 1" + b":1" * 10_000, "line 2: a number of 20001 characters: "
                                          "quote it if it is text"),
        (b"x" * (LIMIT + 1), "65537 bytes, where 65536 are plenty: put data in other files"),
    ],
)  # fmt: skip
def test_file_that_cannot_be_read_is_refused_as_a_whole(data: bytes, problem: str) -> None:
    config, found = read_config(data)
    assert found == [problem]
    assert config.values == {}
    assert config.handler_keys == ()


def test_as_many_bytes_as_are_allowed_pass() -> None:
    assert problems(b"a: " + b"x" * (LIMIT - 3)) == []


def test_as_many_levels_as_torchserve_takes_pass() -> None:
    assert problems("a: " + "[" * 49 + "1" + "]" * 49) == []


NO_CONSTRUCTOR = "cannot be read: could not determine a constructor for the tag"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("a: !!python/object/apply:os.abort []",
         f"{NO_CONSTRUCTOR} 'tag:yaml.org,2002:python/object/apply:os.abort'"),
        ("a: [{b: !!python/name:os.abort ''}]",
         f"{NO_CONSTRUCTOR} 'tag:yaml.org,2002:python/name:os.abort'"),
        ("a: !!javax.script.ScriptEngineManager [1]",
         f"{NO_CONSTRUCTOR} 'tag:yaml.org,2002:javax.script.ScriptEngineManager'"),
        ("a: !secret x", f"{NO_CONSTRUCTOR} '!secret'"),
        ("a: !!set {x}", f"{NO_CONSTRUCTOR} 'tag:yaml.org,2002:set'"),
        ("a: !!binary aGk=", f"{NO_CONSTRUCTOR} 'tag:yaml.org,2002:binary'"),
        ("a: =", f"{NO_CONSTRUCTOR} 'tag:yaml.org,2002:value'"),
        ("a: 2001-13-45", "cannot be read: month must be in 1..12"),
        ("a: 0b_", "cannot be read: invalid literal for int() with base 2: ''"),
        ("a: !!bool x", "cannot be read: 'x'"),
        ("a: {b: 1, ? [c] : 2}",
         "cannot be read: while constructing a mapping, found unhashable key"),
    ],
)  # fmt: skip
def test_value_that_is_not_plain_is_never_constructed(line: str, problem: str) -> None:
    config, found = read_config(f"{line}\nbatchSize: 8\n".encode())
    assert f"a: {problem}: {BEYOND_TEXT}" in found
    assert config.values == {"batchSize": 8}


def test_key_that_stands_twice_is_named_with_its_lines() -> None:
    text = "batchSize: 1\nhandler:\n  a: 1\n  b: [{c: 1, c: 2}]\n  a: 2\nbatchSize: 2\n"
    wins = "of which the last silently wins: keep one"
    assert problems(text) == [
        f"handler.b.c: in lines 4 and 4, {wins}",
        f"handler.a: in lines 3 and 5, {wins}",
        f"batchSize: in lines 1 and 6, {wins}",
    ]


@pytest.mark.parametrize(
    ("line", "name", "kind"),
    [
        ("on: 1", "on", "bool"),
        ("yes: 1", "yes", "bool"),
        ("1: 1", "1", "int"),
        ("1.5: 1", "1.5", "float"),
        ("~: 1", "~", "null"),
        ("2020-01-01: 1", "2020-01-01", "timestamp"),
        ("? [a]\n: 1", "?", "seq"),
        ("? {a: 1}\n: 1", "?", "map"),
        ("!x a: 1", "a", "!x"),
        ("<<: {1: 2}", "1", "int"),
    ],
)
def test_key_that_is_not_text_is_refused_at_the_top(line: str, name: str, kind: str) -> None:
    config, found = read_config(f"{line}\nbatchSize: 8\n".encode())
    assert found == [f"{name}: YAML reads this key as {kind}, not as text, {STOPS}: {QUOTE}"]
    assert config.values == {"batchSize": 8}


def test_below_a_handlers_key_only_keys_that_look_like_text_are_refused() -> None:
    assert problems("handler:\n  0: a\n  1.5: b\n  2020-01-01: c\n") == []
    assert problems("handler:\n  on: a\n") == [
        f"handler.on: YAML reads this key as bool, not as text: {QUOTE}"
    ]


def test_merged_keys_count_as_written() -> None:
    text = "base: &base {batchSize: '8', maxBatchDelay: 5}\n<<: *base\nmaxBatchDelay: 10\n"
    assert problems(text) == [f"batchSize: '8' {NOT_WHOLE} 1: write a bare 8"]
    assert values(text) == yaml.safe_load(text)
    assert problems("<<: 3\n") == [
        "<<: while constructing a mapping, expected a mapping or list of mappings for merging, "
        "but found scalar: write a mapping"
    ]


def laughs(levels: int) -> str:
    text = "l0: &l0 [ha]\n"
    for level in range(1, levels):
        text += f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 9)}]\n"
    return text


@pytest.mark.parametrize(
    "text",
    [
        laughs(levels=40),
        "a: &a {x: 1}\nb: &b {<<: [*a, *a]}\nc: &c {<<: [*b, *b]}\n",
        "a: &a 1\nb: [" + "*a, " * 51 + "]\n",
        "a: &a [*a]\n",
        "a: &a {b: {c: *a}}\n",
    ],
    ids=["laughs", "merges", "many", "itself", "itself below"],
)
def test_aliases_that_multiply_are_refused(text: str) -> None:
    assert problems(text) == [ALIASES]


def test_a_few_aliases_pass() -> None:
    text = "a: &a {x: 1}\nb: [" + "*a, " * 50 + "]\n"
    assert problems(text) == []
    assert values(text) == yaml.safe_load(text)


def test_problems_come_as_they_stand_in_the_file() -> None:
    text = (
        "maxBatchDelay: 0\non: 1\ntorchrun:\n  nnodes: 0\n  1: 1\n  foo: 1\n"
        "date: 2001-99-99\nbatch_size: 1\nminWorkers: 1\nhandler: {no: 1}\nbatchSize: '1'\n"
    )
    names = [problem.partition(":")[0] for problem in problems(text)]
    assert names == [
        "maxBatchDelay", "on", "torchrun.nnodes", "torchrun.1", "torchrun.foo", "date",
        "batch_size", "minWorkers", "handler.no", "batchSize",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ['? "batch\\nsize"\n: 1\n', '"batch\\u2028Size": 1\n', f"batchSize: {'x' * 9999}\n",
     'batchSize: "a\\nb\\x85"\n', f"? {'batchSize' * 999}\n: !{'x' * 9999} 1\n", '"": !x 1\n'],
)  # fmt: skip
def test_a_problem_is_one_short_line_whatever_the_file_says(text: str) -> None:
    found = problems(text)
    assert found
    for problem in found:
        assert len(problem.splitlines()) == 1
        assert problem.isprintable()
        assert len(problem) < 400


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode()))
@example(data=b'"\\UFFFFFFFF": 1')
@example(data=b"a: 0.0" + b":0" * 50)
@example(data=b"%YAML 1." + b"9" * 5000)
@example(data=b"a: !!timestamp x")
@example(data=b"a: !!int ''")
@example(data=b"a: 1:1:1.1e400")
@example(data=b"a: 9" + b":59" * 30 + b".5")
def test_bad_data_never_raises(data: bytes) -> None:
    found = problems(data)
    assert all(problem and problem.isprintable() for problem in found)
    if not found:
        assert completed(completed(data)) == completed(data)


PIECES = (
    "a", "batchSize", ": ", "\n", "  ", "- ", "[", "]", "{", "}", ",", "? ", "&a ", "*a", "<<", "|",
    ">", "'", '"', "\\U", "!!int ", "!!python/name:os ", "!x ", "1", "0x", "1:", "2001-99-99", "~",
    "on", "#", "---\n", "...", "%YAML 1.1\n", "\t", "=", ".nan", "é", "\ufeff",
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=25))
def test_broken_yaml_never_raises(pieces: list[str]) -> None:
    data = "".join(pieces).encode()
    config, found = read_config(data)
    assert all(problem and problem.isprintable() for problem in found)
    if not found:
        plain = yaml.safe_dump(yaml.safe_load(data.decode()))
        assert yaml.safe_dump(config.values) == plain


WHOLES = (
    "batchSize", "maxBatchDelay", "responseTimeout", "startupTimeout", "parallelLevel",
    "clientTimeoutInMills", "jobQueueSize", "sequenceMaxIdleMSec", "sequenceTimeoutMSec",
    "maxSequenceJobQueueSize", "maxNumSequence",
)  # fmt: skip
SWITCHES = (
    "useJobTicket", "continuousBatching", "sequenceBatching", "asyncCommunication", "useVenv",
)  # fmt: skip
TORCHRUN_WHOLES = (
    "nnodes", "nproc-per-node", "monitor-interval", "node-rank", "OMP_NUMBER_THREADS",
)  # fmt: skip
WHOLE = st.integers(1, 2**31 - 1)
TORCHRUN = dict.fromkeys(TORCHRUN_WHOLES, WHOLE) | dict.fromkeys(
    ("rdzv-backend", "rdzv-endpoint", "rdzv-conf"), st.text()
)
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(WHOLES, WHOLE),
        **dict.fromkeys(SWITCHES, st.booleans()),
        "maxRetryTimeoutInSec": st.integers(0, 2147483),
        "deviceType": st.sampled_from(["cpu", "gpu"]),
        "deviceIds": st.lists(st.integers(0, 7)),
        "parallelType": st.sampled_from(["pp", "tp", "pptp", "custom"]),
        "torchrun": st.fixed_dictionaries({}, optional=TORCHRUN),
    },
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
HANDLERS = st.dictionaries(st.sampled_from(["handler", "pt2", "model_path", "é", "a b"]), PLAIN)
WORKERS = st.tuples(WHOLE, WHOLE).map(
    lambda pair: {"minWorkers": min(pair), "maxWorkers": max(pair)}
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@example(parts=({}, {"handler": {"\x85": "\u2028 \x85"}}, {}), flow=True, ending="")
@given(
    parts=st.tuples(SETTINGS, HANDLERS, WORKERS | st.just({})),
    flow=st.booleans(),
    ending=st.sampled_from(["", "\n", "# end", "...\n"]),
)
def test_valid_values_pass_and_are_completed_once(
    parts: tuple[dict[str, Any], ...], flow: bool, ending: str
) -> None:
    config = {key: value for part in parts for key, value in part.items()}
    # Such workers cannot be started without its settings.
    assume(not [*parallel_problems(config)])
    data = (yaml.safe_dump(config, sort_keys=False, default_flow_style=flow) + ending).encode()
    read, found = read_config(data)
    assert found == []
    # As text, because NaN is not equal to itself.
    assert yaml.safe_dump(read.values, sort_keys=False) == yaml.safe_dump(config, sort_keys=False)
    whole = completed(data)
    again, found = read_config(whole)
    assert found == []
    kept = {key: value for key, value in again.values.items() if key in config}
    assert yaml.safe_dump(kept) == yaml.safe_dump(config)
    assert {key: again.values[key] for key in TIMEOUTS} == {
        key: config.get(key, default) for key, default in TIMEOUTS.items()
    }
    assert completed(whole) == whole


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("batchSize: 8  # eight\n", f"batchSize: 8  # eight\n{COMMENT}\n{ALL_TIMEOUTS}"),
        ("batchSize: 8", f"batchSize: 8\n{COMMENT}\n{ALL_TIMEOUTS}"),
        ("batchSize: 8 # end", f"batchSize: 8 # end\n{COMMENT}\n{ALL_TIMEOUTS}"),
        ("---\na: é\r\n", f"---\na: é\r\n{COMMENT}\n{ALL_TIMEOUTS}"),
        ("a: |+\n  x\n\n", f"a: |+\n  x\n\n{COMMENT}\n{ALL_TIMEOUTS}"),
        ("responseTimeout: 30\nmaxRetryTimeoutInSec: 0\n",
         f"responseTimeout: 30\nmaxRetryTimeoutInSec: 0\n{COMMENT}\nstartupTimeout: 120\n"),
        (ALL_TIMEOUTS, ALL_TIMEOUTS),
        ("{responseTimeout: 1, startupTimeout: 2, maxRetryTimeoutInSec: 3}",
         "{responseTimeout: 1, startupTimeout: 2, maxRetryTimeoutInSec: 3}"),
        ("b: &b {responseTimeout: 5}\n<<: *b\n",
         f"b: &b {{responseTimeout: 5}}\n<<: *b\n{COMMENT}\n"
         "startupTimeout: 120\nmaxRetryTimeoutInSec: 300\n"),
    ],
)  # fmt: skip
def test_completed_keeps_text_and_comments(before: str, after: str) -> None:
    assert completed(before.encode()).decode() == after


@pytest.mark.parametrize(
    ("before", "values"),
    [
        ("{z: 1, a: b}  # flow\n", "z: 1\na: b\n"),
        ('{a: "é\\N"}\n', 'a: "\\xE9\\N"\n'),
        ("{}\n", ""),
        ("a: 1\n...\n", "a: 1\n"),
        ("  a: 1\n  b: 2\n", "a: 1\nb: 2\n"),
        ("a: |\n  no line end", "a: no line end\n"),
    ],
    ids=[
        "flow",
        "line end of Unicode",
        "nothing",
        "document end",
        "indented",
        "text without a line end",
    ],
)
def test_completed_writes_anew_what_nothing_can_be_appended_to(before: str, values: str) -> None:
    assert completed(before.encode()).decode() == values + ALL_TIMEOUTS
