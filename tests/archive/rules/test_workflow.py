"""Specs of workflows: what TorchServe refuses, and what it loses without a word, is a problem.

Each claim about TorchServe is put to its own class where there is a Java compiler.
"""

from __future__ import annotations

import importlib.util
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from marwright.archive.rules.dag import nodes_of
from marwright.archive.rules.workflow import SETTINGS, Spec, node_problems, notes_on, read_spec

SPEC = Path(__file__).with_name("Spec.java")
M = "models:\n  m1: {url: a.mar}\n  m2: {url: b.mar}\n"
ONE = "dag: {m1: []}\n"

# What is sound, as it is taken: node, what follows it, and for models their settings.
GOOD = {
    "functions around models": M + "dag:\n  pre: [m1]\n  m1: [m2]\n  m2: [post]\n",
    "models alone": M + "dag: {m1: [m2]}\n",
    "functions alone": "models: {}\ndag: {one: [two], two: [three]}\n",
    "one node": "models: {}\ndag: {one: []}\n",
    "branches that meet": M + "dag: {pre: [m1, m2], m1: [post], m2: [post]}\n",
    "two ends": M + "dag: {pre: [m1, m2]}\n",
    "nodes in any order": M + "dag: {m2: [post], m1: [m2], pre: [m1]}\n",
    "defaults for all": (
        "models:\n  max-workers: 3\n  batch-size: 4\n  max-batch-delay: 7\n  retry-attempts: 0\n"
        "  timeout-ms: 99\n  m1: {url: a.mar}\n  m2: {url: b.mar}\ndag: {m1: [m2]}\n"
    ),
    "workers as the documentation has them": (
        "models:\n  min-workers: 1\n  max-workers: 4\n  m1: {url: a.mar}\n"
        "  m2: {url: b.mar, min-workers: 2, max-workers: 2}\ndag: {m1: [m2]}\n"
    ),
    "defaults and own": (
        "models:\n  batch-size: 4\n  timeout-ms: 9\n  m1: {url: a.mar, batch-size: 1}\n"
        "  m2: {url: b.mar, timeout-ms: 5, max-workers: 2, min-workers: 2, max-batch-delay: 0}\n"
        "dag: {m1: [m2]}\n"
    ),
    "a default below what needs it not": (
        "models:\n  m1: {url: a.mar, batch-size: 2}\n  batch-size: 4\n  m2: {url: b.mar}\n"
        "dag: {m1: [m2]}\n"
    ),
    "one archive twice": "models: {a: {url: x.mar}, b: {url: x.mar}}\ndag: {a: [b]}\n",
    "fetched": "models: {m1: {url: 'HTTPS://models.example/a.mar'}}\n" + ONE,
    "an alias": "models:\n  m1: &m {url: a.mar, batch-size: 2}\n  m2: *m\ndag: {m1: [m2]}\n",
    "a merge": (
        "models:\n  m1: &m {url: a.mar, batch-size: 2}\n  m2: {<<: *m, batch-size: 3}\n"
        "dag: {m1: [m2]}\n"
    ),
    "numbers as YAML has them": (
        "models:\n  m1: {url: a.mar, batch-size: 0x10, timeout-ms: 1_000, retry-attempts: +2}\n"
        "  m2: {url: b.mar, batch-size: 010, timeout-ms: 1:30}\ndag: {m1: [m2]}\n"
    ),
    "a byte order mark": "\ufeff" + M + "dag: {m1: [m2]}\n",
    "quoted numbers for names": "models: {'1': {url: a.mar}}\ndag: {'1': []}\n",
}

# What TorchServe does with the others: it refuses them, or takes them and loses something.
REFUSES, LOSES = "refuses", "loses"
NUMBER = "is not a whole number, and TorchServe refuses the workflow: write"
MAPPING = "is no mapping, and TorchServe refuses that: write"
URL = "a model needs the name of its archive in the model store: write `url: m1.mar`"
PLACE = (
    "TorchServe looks in the model store alone, whatever folder stands here: write the archive's "
    "plain name"
)


def model(keys: str) -> str:
    return f"models:\n  m1: {{url: a.mar, {keys}}}\n{ONE}"


BAD: dict[str, tuple[str, str, list[str]]] = {
    # Numbers.
    "text for a number": (model("batch-size: '4'"), REFUSES,
        [f"models.m1.batch-size: '4' {NUMBER} a bare 4"]),
    "a fraction": (model("timeout-ms: 2.0"), REFUSES,
        [f"models.m1.timeout-ms: 2.0 {NUMBER} a bare 2"]),
    "a switch": (model("max-workers: true"), REFUSES,
        [f"models.m1.max-workers: true {NUMBER} a whole number, 1 or more"]),
    "no number": (model("max-batch-delay: "), REFUSES,
        [f"models.m1.max-batch-delay: null {NUMBER} a whole number, 0 or more"]),
    "a long number": (model("timeout-ms: 3000000000"), REFUSES,
        ["models.m1.timeout-ms: 3000000000 is too large for TorchServe: write 2147483647 at most"]),
    "octal of another YAML": (model("batch-size: 0o17"), REFUSES,
        [f"models.m1.batch-size: '0o17' {NUMBER} a whole number, 1 or more"]),
    "no worker": (model("max-workers: 0"), LOSES,
        ["models.m1.max-workers: 0 is less than 1: write 1 or more"]),
    "an empty batch": (model("batch-size: -1"), LOSES,
        ["models.m1.batch-size: -1 is less than 1: write 1 or more"]),
    "a delay that is over": (model("max-batch-delay: -1"), LOSES,
        ["models.m1.max-batch-delay: -1 is less than 0: write 0 or more"]),
    "no time": (model("timeout-ms: 0"), LOSES,
        ["models.m1.timeout-ms: 0 is less than 1: write 1 or more"]),
    "less than no attempt": (model("retry-attempts: -1"), LOSES,
        ["models.m1.retry-attempts: -1 is less than 0: write 0 or more"]),
    "text for a default": ("models:\n  batch-size: four\n  m1: {url: a.mar}\n" + ONE, REFUSES,
        [f"models.batch-size: 'four' {NUMBER} a whole number, 1 or more"]),
    # Workers, of which TorchServe looks at one number.
    "more workers at least": (model("min-workers: 2"), LOSES,
        ["models.m1.min-workers: 2 is more than max-workers, and TorchServe starts 1: write "
         "max-workers: 2"]),
    "more workers at least, by default": (
        "models:\n  min-workers: 4\n  m1: {url: a.mar}\n  m2: {url: b.mar}\n"
        "dag: {m1: [m2]}\n", LOSES,
        ["models.min-workers: 4 is more than max-workers, and TorchServe starts 1: write "
         "max-workers: 4"]),
    # Keys.
    "a key of model-config.yaml": (model("batchSize: 4"), LOSES,
        ['models.m1.batchSize: TorchServe ignores it; did you mean "batch-size"?']),
    "a key with a slip": (model("time-out-ms: 4"), LOSES,
        ['models.m1.time-out-ms: TorchServe ignores it; did you mean "timeout-ms"?']),
    "a key of nobody": (model("zzz: 4"), LOSES,
        ["models.m1.zzz: TorchServe ignores it; known: batch-size, max-batch-delay, max-workers, "
         "min-workers, retry-attempts, timeout-ms, url"]),
    "a number for a key": (model("1: 4"), LOSES,
        ["models.m1.1: YAML reads this key as int, not as text: put it in quotes"]),
    "a default with a slip": ("models:\n  batch-sise: 4\n  m1: {url: a.mar}\n" + ONE, REFUSES,
        [f"models.batch-sise: 4 {MAPPING} a model as `m1: {{url: m1.mar}}`; did you mean "
         '"batch-size"?']),
    "a section more": (M + "dag: {m1: [m2]}\nversion: 2\n", LOSES,
        ["version: TorchServe ignores it; known: dag, models: remove it"]),
    "a section with a slip": ("model: {}\nmodels: {}\ndag: {one: []}\n", LOSES,
        ['model: TorchServe ignores it; did you mean "models"?: remove it']),
    "a key twice": (M + "dag: {m1: [m2], m2: [], m1: []}\n", REFUSES,
        ["dag.m1: in lines 4 and 4, of which the last silently wins: keep one"]),
    "on, which is true": (M + "dag: {on: [m1], m1: [m2]}\n", REFUSES,
        ["dag.on: YAML reads this key as bool, not as text: put it in quotes"]),
    "a number for a node": (M + "dag: {1: [m1], m1: [m2]}\n", REFUSES,
        ["dag.1: YAML reads this key as int, not as text: put it in quotes"]),
    "a number for a model": ("models: {1: {url: a.mar}}\ndag: {one: []}\n", REFUSES,
        ["models.1: YAML reads this key as int, not as text: put it in quotes"]),
    "a number for Java alone": ("models: {}\ndag: {1e3: [two]}\n", REFUSES,
        ["dag.1e3: 1e3 is a number to TorchServe: give the node another name"]),
    # Order.
    "a default below a model": (
        "models:\n  m1: {url: a.mar}\n  batch-size: 4\n  m2: {url: b.mar}\ndag: {m1: [m2]}\n",
        LOSES, ["models.batch-size: stands below m1, which TorchServe gives 1: move it to the top "
                "of models"]),
    "workers below a model": (
        "models:\n  m1: {url: a.mar}\n  min-workers: 1\ndag: {m1: []}\n", LOSES,
        ["models.min-workers: stands below m1, which TorchServe gives 1: move it to the top of "
         "models"]),
    "defaults that are merged in": (
        "models:\n  m1: {url: a.mar, batch-size: &n 4}\n  <<: {batch-size: *n}\n" + ONE, LOSES,
        ["models.<<: TorchServe reads models in their order: write it out"]),
    # Models.
    "no models": ("dag: {one: []}\n", REFUSES,
        ["models: missing: write it, with what is in it below, as `m1: {url: m1.mar}`"]),
    "models that are empty": ("models:\ndag: {one: []}\n", REFUSES,
        ["models: empty, and TorchServe refuses that: write `m1: {url: m1.mar}` below"]),
    "models in a list": ("models: [m1]\ndag: {one: []}\n", REFUSES,
        [f"models: ['m1'] {MAPPING} `m1: {{url: m1.mar}}` below"]),
    "a model that is a name": ("models: {m1: a.mar}\n" + ONE, REFUSES,
        [f"models.m1: 'a.mar' {MAPPING} a model as `m1: {{url: m1.mar}}`"]),
    "a model that is empty": ("models: {m1: }\n" + ONE, REFUSES,
        [f"models.m1: null {MAPPING} a model as `m1: {{url: m1.mar}}`"]),
    "a model called as a setting": ("models: {batch-size: {url: a.mar}}\ndag: {one: []}\n", REFUSES,
        [f"models.batch-size: {{'url': 'a.mar'}} {NUMBER} a whole number, 1 or more"]),
    "no archive": ("models: {m1: {batch-size: 1}}\n" + ONE, LOSES, [f"models.m1: {URL}"]),
    "an archive that is a number": ("models: {m1: {url: 5}}\n" + ONE, REFUSES,
        [f"models.m1.url: {URL}"]),
    "an empty archive": ("models: {m1: {url: ''}}\n" + ONE, LOSES, [f"models.m1.url: {URL}"]),
    "a folder": ("models: {m1: {url: sub/a.mar}}\n" + ONE, LOSES,
        [f"models.m1.url: sub/a.mar: {PLACE}"]),
    "the folder above": ("models: {m1: {url: ../a.mar}}\n" + ONE, LOSES,
        [f"models.m1.url: ../a.mar: {PLACE}"]),
    "an absolute path": ("models: {m1: {url: /a.mar}}\n" + ONE, LOSES,
        [f"models.m1.url: /a.mar: {PLACE}"]),
    "a backslash": ("models: {m1: {url: 'b\\a.mar'}}\n" + ONE, LOSES,
        [f"models.m1.url: b\\a.mar: {PLACE}"]),
    "a file of some machine": ("models: {m1: {url: 'file:///a.mar'}}\n" + ONE, LOSES,
        ["models.m1.url: file:///a.mar: neither the name of an archive in the model store nor "
         "http(s)"]),
    "another protocol": ("models: {m1: {url: 's3://b/a.mar'}}\n" + ONE, LOSES,
        ["models.m1.url: s3://b/a.mar: neither the name of an archive in the model store nor "
         "http(s)"]),
    "a URL that ends a line": ('models: {m1: {url: "http://a/\\u2028b.mar"}}\n' + ONE, LOSES,
        ["models.m1.url: no URL: it has characters that do not print"]),
    "an unused model": (M + ONE, LOSES,
        ["models.m2: no node of the dag is called so: name it there, or remove it, as TorchServe "
         "does without a word"]),
    "an unused model with a slip": (M + "dag: {m1: [m_2]}\n", LOSES,
        ['models.m2: no node of the dag is called so; did you mean "m_2"?: name it there, or '
         "remove it, as TorchServe does without a word"]),
    # The graph.
    "no dag": (M, REFUSES,
        ["dag: missing: write it, with what is in it below, as `m1: [m2]`"]),
    "a dag that is empty": (M + "dag:\n", REFUSES,
        ["dag: empty, and TorchServe refuses that: write `m1: [m2]` below"]),
    "a dag without nodes": ("models: {}\ndag: {}\n", REFUSES,
        ["dag: has no nodes: write what follows what, as `m1: [m2]`"]),
    "a dag in a list": (M + "dag: [m1, m2]\n", REFUSES,
        [f"dag: ['m1', 'm2'] {MAPPING} `m1: [m2]` below"]),
    "a name for a list": (M + "dag: {m1: m2}\n", REFUSES,
        ["dag.m1: 'm2' is no list, and TorchServe refuses that: write `[m2]`"]),
    "nothing for a list": (M + "dag: {m1: [m2], m2: }\n", REFUSES,
        ["dag.m2: null is no list, and TorchServe refuses that: write `[m2]`"]),
    "nothing in a list": (M + "dag: {m1: [m2, ~]}\n", LOSES,
        ["dag.m1: null is no node's name, and TorchServe leaves it out without a word: write "
         "text"]),
    "a blank in a list": (M + "dag: {m1: [m2, ' ']}\n", LOSES,
        ["dag.m1: ' ' is no name for a node: letters, digits, '.', '_' and '-' only, as it goes "
         "into URLs"]),
    "a number in a list": (M + "dag: {m1: [m2, 5]}\n", REFUSES,
        ["dag.m1: 5 is no node's name, and TorchServe refuses the workflow: write text"]),
    "a mapping in a list": (M + "dag: {m1: [{m2: []}]}\n", REFUSES,
        ["dag.m1: {'m2': []} is no node's name, and TorchServe refuses the workflow: write text"]),
    "a name with a blank": ("models: {m 1: {url: a.mar}}\ndag: {m 1: []}\n", LOSES,
        ["dag.m 1: 'm 1' is no name for a node: letters, digits, '.', '_' and '-' only, as it goes "
         "into URLs"]),
    "a name with a slash": ("models: {}\ndag: {a/b: [c]}\n", LOSES,
        ["dag.a/b: 'a/b' is no name for a node: letters, digits, '.', '_' and '-' only, as it goes "
         "into URLs"]),
    "a node twice in a list": (M + "dag: {m1: [m2, m2]}\n", REFUSES,
        ["dag.m1: m2 stands here 2 times: name it once"]),
    "a node after itself": ("models: {}\ndag: {one: [one]}\n", REFUSES,
        ["dag.one: one → one goes round in a circle: remove one of these"]),
    "a circle": (M + "dag: {m1: [m2], m2: [m1]}\n", REFUSES,
        ["dag.m1: m1 → m2 → m1 goes round in a circle: remove one of these"]),
    "a circle behind a start": (M + "dag: {pre: [m1], m1: [m2], m2: [m1]}\n", REFUSES,
        ["dag.m1: m1 → m2 → m1 goes round in a circle: remove one of these"]),
    "a circle of its own": (M + "dag: {pre: [], m1: [m2], m2: [m1]}\n", REFUSES,
        ["dag.m1: m1 → m2 → m1 goes round in a circle: remove one of these"]),
    "two starts": (M + "dag: {m1: [post], m2: [post]}\n", REFUSES,
        ["dag: starts with m1, m2, and TorchServe takes one start only: let one node, a function "
         "for example, lead to them"]),
    "two parts": (M + "dag: {m1: [], m2: []}\n", REFUSES,
        ["dag: starts with m1, m2, and TorchServe takes one start only: let one node, a function "
         "for example, lead to them"]),
    # No plain YAML.
    "nothing": ("", REFUSES,
        ["empty, and TorchServe refuses that: write keys and values, as `models:` and `dag:`"]),
    "a list": ("- models\n", REFUSES,
        ["a list, and TorchServe refuses that: write keys and values, as `models:` and `dag:`"]),
    "a word": ("models\n", REFUSES,
        ["a single value, and TorchServe refuses that: write keys and values, as `models:` and "
         "`dag:`"]),
    "no YAML": ("models: [\n", REFUSES,
        ["line 2: not YAML: while parsing a flow node, expected the node content, but found "
         "'<stream end>'"]),
    "two documents": (M + ONE + "---\nmodels: {}\n", REFUSES,
        ["more than one document, which TorchServe refuses: keep one"]),
    "a class of Java": ("models: {m1: {url: !!java.io.File [a.mar]}}\n" + ONE, REFUSES,
        ["models: cannot be read: could not determine a constructor for the tag "
         "'tag:yaml.org,2002:java.io.File': write a plain value, and text in quotes"]),
    "an object of Python": ("models: !!python/object/apply:os.getcwd []\n" + ONE, REFUSES,
        ["models: cannot be read: could not determine a constructor for the tag "
         "'tag:yaml.org,2002:python/object/apply:os.getcwd': write a plain value, and text in "
         "quotes"]),
    "a bomb": (
        "models: {}\ndag:\n  a: &a [x, x]\n  b: &b [*a, *a]\n  c: &c [*b, *b]\n", REFUSES,
        ["more than 50 aliases, or one to what holds one, and such files can grow without end: "
         "write them out"]),
}  # fmt: skip


def problems(text: str) -> list[str]:
    return read_spec(text.encode())[1]


def spec_of(text: str) -> Spec:
    spec, found = read_spec(text.encode())
    assert found == []
    return spec


@pytest.mark.parametrize("what", GOOD)
def test_what_is_sound_passes(what: str) -> None:
    assert problems(GOOD[what]) == []


@pytest.mark.parametrize("what", BAD)
def test_what_would_be_refused_or_lost_is_named(what: str) -> None:
    text, _, expected = BAD[what]
    assert problems(text) == expected


def test_many_names_are_not_compared_with_each_other() -> None:
    models = ", ".join(f"model_{number}: {{url: a.mar}}" for number in range(100))
    text = f"models: {{{models}}}\ndag: {{first: [{', '.join(f'model{n}' for n in range(100))}]}}\n"
    found = problems(text)
    assert len(found) == 100
    assert {line.partition(": ")[2] for line in found} == {
        "no node of the dag is called so: name it there, or remove it, as TorchServe does without "
        "a word"
    }


def test_problems_come_in_the_order_of_the_file() -> None:
    text = (
        "dag: {a: m1}\nextra: 1\nmodels:\n  batch-size: x\n  m1: {url: 5, zzz: 1}\n"
        "  m2: {url: b/c.mar}\n"
    )
    assert [line.partition(": ")[0] for line in problems(text)] == [
        "dag.a", "extra", "models.batch-size", "models.m1.url", "models.m1.zzz", "models.m2.url",
    ]  # fmt: skip


def test_a_sound_spec_is_read_as_it_is_taken() -> None:
    spec = spec_of(GOOD["defaults and own"])
    assert spec.models["m1"].settings == {
        "max-workers": 1, "batch-size": 1, "max-batch-delay": 50, "retry-attempts": 1,
        "timeout-ms": 9,
    }  # fmt: skip
    assert spec.models["m2"].settings == {
        "max-workers": 2, "batch-size": 4, "max-batch-delay": 0, "retry-attempts": 1,
        "timeout-ms": 5,
    }  # fmt: skip
    spec = spec_of(GOOD["functions around models"])
    assert spec.dag == {"pre": ("m1",), "m1": ("m2",), "m2": ("post",)}
    assert spec.functions == ["pre", "post"]
    assert spec.ends == ["post"]


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
@example(b"models: {a: &a [*a]}\ndag: *a")
@example(b"models:\n  ? {a: 1}\n  : 2\ndag: {? [1] : 2}")
@example(b'models: {"\\ud800": {"\\ud800": 1}}\ndag: {"\\ud800": ["\\ud800"]}')
@example(b"models: {" + b"a: {url: " * 30 + b"}" * 31)
def test_whatever_the_bytes_problems_are_lines_that_print(data: bytes) -> None:
    spec, found = read_spec(data)
    assert found or spec.dag
    for line in found:
        assert line.isprintable()
        assert len(line) < 1000


# What the nodes are


def reading(**members: str) -> dict[str, bytes]:
    return {f"{name}.py": text.encode() for name, text in members.items()}


def test_every_node_is_a_model_or_a_function() -> None:
    spec = spec_of(GOOD["functions around models"])
    functions = "def pre(data, context): ...\n"
    whole = reading(handler=functions + "def post(data, context): ...\n")
    assert node_problems(spec, "handler.py", whole.get) == []
    assert node_problems(spec, "handler.py", reading(handler=functions).get) == [
        "handler.py: has no function post: write `def post(data, context):`, or add a model of "
        "that name to the spec; known: pre"
    ]
    nobody = "is none of the models, and there is no handler to have it as a function: add one"
    for handler in ("", "handler.py"):
        assert node_problems(spec, handler, {}.get) == [
            f"dag: {node} {nobody}, with `def {node}(data, context):`" for node in ("pre", "post")
        ]
    assert node_problems(spec_of(GOOD["models alone"]), "", {}.get) == []


def test_package_of_the_handlers_name_would_be_imported_for_it() -> None:
    spec = spec_of(GOOD["models alone"])
    members = {"handler.py": b"", "handler/__init__.py": b""}
    assert node_problems(spec, "handler.py", members.get) == [
        "handler.py: Python would import handler/__init__.py in its place: rename one of them"
    ]


@pytest.mark.parametrize(
    ("what", "handler", "expected"),
    [
        ("functions around models", "handler.py", []),
        ("models alone", "", []),
        ("models alone", "handler.py", ["handler.py: no node is a function of it"]),
        ("fetched", "", ["models.m1.url: HTTPS://models.example/a.mar is fetched by the server, "
                         "if its allowed_urls let it"]),
        ("workers as the documentation has them", "", [
            "models.m1: TorchServe never looks at min-workers, and starts max-workers, 4, at once",
        ]),
        ("two ends", "handler.py", ["dag: ends with m1, m2: the answer is an object with theirs "
                                    "by name, and each of them must be a JSON object"]),
    ],
)  # fmt: skip
def test_what_is_worth_knowing_is_noted(what: str, handler: str, expected: list[str]) -> None:
    assert notes_on(spec_of(GOOD[what]), handler) == expected


# TorchServe itself


@pytest.fixture(scope="module")
def taken_by_torchserve(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """What TorchServe makes of every spec of this file, then of random graphs: fields of lines."""
    spec = importlib.util.find_spec("ts")
    if shutil.which("javac") is None or spec is None or spec.origin is None:
        pytest.skip("there is no Java compiler, or no TorchServe, here")
    jar = Path(spec.origin).parent / "frontend" / "model-server.jar"
    folders = []
    for text in (*GOOD.values(), *(text for text, _, _ in BAD.values()), *random_graphs()):
        folders.append(tmp_path_factory.mktemp("spec"))
        (folders[-1] / "spec.yaml").write_text(text, encoding="utf-8")
    command = ["java", "-cp", str(jar), str(SPEC), *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    # Its logging may have a word to say too.
    all_lines = [line.split("\t") for line in done.stdout.splitlines()]
    lines = [fields for fields in all_lines if fields[0] in ("taken", "refused")]
    assert len(lines) == len(folders)
    return lines


def random_graphs() -> list[str]:
    """Return specs of graphs of a few functions, about half of which are sound."""
    chance, texts = random.Random(7), []
    for _ in range(300):
        names = "abcde"[: chance.randint(1, 5)]
        lists = [[other for other in names if chance.random() < 0.25] for _ in names]
        after = {name: lists[at] for at, name in enumerate(names)}
        texts.append(f"models: {{}}\ndag: {after}\n".replace("'", ""))
    return texts


def ours(text: str) -> list[str]:
    """Return what we read as TorchServe's lines have it."""
    spec = spec_of(text)
    # Functions have the defaults of the file, which models do not show.
    fields = ["taken"]
    for node in sorted(nodes_of(spec.dag)):
        after = ",".join(sorted(spec.dag.get(node, ())))
        model = spec.models.get(node)
        values = [] if model is None else [model.url, *map(str, model.settings.values())]
        fields.append("|".join([node, after, *values]))
    return fields


def without_functions(fields: list[str]) -> list[str]:
    """Drop the settings of functions, whose URL is none."""
    parts = [field.split("|") for field in fields]
    return ["|".join(part[:2] if part[2:3] == ["null"] else part) for part in parts]


def test_torchserve_takes_what_passes_as_we_read_it(taken_by_torchserve: list[list[str]]) -> None:
    taken = taken_by_torchserve[: len(GOOD)]
    for (what, text), fields in zip(GOOD.items(), taken, strict=True):
        assert without_functions(fields) == ours(text), what


def test_torchserve_refuses_or_takes_as_we_say(taken_by_torchserve: list[list[str]]) -> None:
    fates = {REFUSES: "refused", LOSES: "taken"}
    bad = taken_by_torchserve[len(GOOD) : len(GOOD) + len(BAD)]
    for (what, (_, fate, _)), fields in zip(BAD.items(), bad, strict=True):
        assert fields[0] == fates[fate], what


def test_torchserve_agrees_on_random_graphs(taken_by_torchserve: list[list[str]]) -> None:
    graphs = random_graphs()
    sound = 0
    for text, fields in zip(graphs, taken_by_torchserve[-len(graphs) :], strict=True):
        if problems(text):
            assert fields[0] == "refused", text
        else:
            assert without_functions(fields) == ours(text)
            sound += 1
    assert 50 < sound < 250


def test_settings_are_those_that_torchserve_names() -> None:
    assert sorted(SETTINGS) == [
        "batch-size", "max-batch-delay", "max-workers", "min-workers", "retry-attempts",
        "timeout-ms",
    ]  # fmt: skip
