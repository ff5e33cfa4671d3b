"""The command line: verbs, their options, and how their ends are told.

Nothing heavy is imported before it is needed: a build in which nothing is stale is over in a
tenth of a second.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline.interrupt import end_at_once
from pipeline.layout import Layout
from pipeline.plan import GOALS, furthest, steps_up_to
from recipes.errors import MarwrightError, RecipeError, UsageError, VerifyError
from recipes.load import load_recipes
from recipes.types import Recipe

# One line each, in the order of `--help`.
_BUILD_HELP = {
    "train": "train and trace: build/<model>/weights.safetensors and model.pt",
    "onnx": "... and export: build/<model>/model.onnx",
    "parity": "... and compare both with the checkpoint: build/<model>/parity.json",
    "archive": "... and pack, verify and publish: model_store/<model>.mar",
    "verify": "the same, after re-hashing every output; or check any .mar files given",
}
_EPILOG = "Several build verbs may follow each other: one run builds up to the furthest."


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    top = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="Turn declared models into TorchServe archives that are proven.",
        epilog=_EPILOG,
    )
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)

    def add(verb: str, about: str) -> argparse.ArgumentParser:
        return verbs.add_parser(verb, help=about, description=about, parents=[common])

    for verb, about in _BUILD_HELP.items():
        build = add(verb, about)
        build.add_argument(
            "targets", nargs="*", metavar="TARGET",
            help="further build verbs; for verify: models, or .mar files",
        )  # fmt: skip
        _add_models(build)
        _add_jobs(build)
        if verb == "verify":
            build.add_argument("--json", action="store_true", help="reports of files as JSON")
    _add_models(add("explain", "for every step: is it current, and if not, which input changed"))
    _add_models(add("list", "a table of models, versions, metrics, parity and state"))
    serve = add("serve", "run TorchServe on the model store until Ctrl-C")
    _add_models(serve)
    _add_port(serve)
    add("stop", "stop the server that `serve` started")
    predict = add("predict", "send an input to the running server and print its answer")
    predict.add_argument("--model", required=True, metavar="NAME", help="as in `list`")
    predict.add_argument(
        "--input", required=True, metavar="INPUT", help="a file, - for standard input, or JSON text"
    )
    _add_port(predict)
    release = add("release", "build everything from clean, run every gate, fill dist/")
    release.add_argument("--version", required=True, metavar="V", help="as in 1.2.0")
    _add_jobs(release)
    add("doctor", "versions of everything that matters, and what is wrong with them")
    return top


def _add_models(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--model", default="", metavar="A,B", help="only these models; all recipes without it"
    )


def _add_jobs(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--jobs", type=_positive, default=1, metavar="N",
        help="models to build side by side; changes no result",
    )  # fmt: skip


def _add_port(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--port", type=_positive, help="of the inference API; management is the next")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def main(arguments: list[str]) -> int:
    """Run a command line; returns the exit code. See `recipes/errors.py` for the codes."""
    args = parser().parse_args(arguments)
    try:
        return _run(args, Layout(root=Path(__file__).resolve().parent.parent))
    except MarwrightError as error:
        if args.debug:
            raise
        print(f"marwright: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # `… | head` has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        end_at_once()


def _run(args: argparse.Namespace, layout: Layout) -> int:
    if args.verb in GOALS:
        return _build(args, layout)
    if args.verb == "explain":
        from pipeline.explain import explain

        return _for_all(explain, args.model, layout)
    if args.verb == "list":
        from pipeline.listing import list_models

        return _for_all(list_models, args.model, layout)
    if args.verb == "serve":
        from pipeline.serve import serve

        return serve(root=layout.root, port=args.port, models=_names(args.model))
    if args.verb == "stop":
        from pipeline.serve import stop

        return stop(layout.root)
    if args.verb == "predict":
        from pipeline.predict import predict

        return predict(root=layout.root, model=args.model, input=args.input, port=args.port)
    if args.verb == "release":
        from pipeline.release import release

        return release(args.version, layout, jobs=args.jobs)
    from pipeline.doctor import main as doctor

    return doctor()


def _build(args: argparse.Namespace, layout: Layout) -> int:
    from pipeline.build import Outcome, build, damaged, told

    verbs = [args.verb, *(target for target in args.targets if target in GOALS)]
    targets = [*(target for target in args.targets if target not in GOALS), *_names(args.model)]
    files = [Path(target) for target in targets if target.endswith(".mar")]
    names = [target for target in targets if not target.endswith(".mar")]
    if files and "verify" not in verbs:
        raise UsageError(f"{files[0]}: only `verify` takes .mar files")
    code = 0
    if files:
        from pipeline.verify_files import verify_files

        code = verify_files(files, as_json=getattr(args, "json", False))
        if not names:
            return code
    recipes, unreadable = _load(names, layout)
    outcomes = {n: Outcome(model=n, error=unreadable.get(n)) for n in (*recipes, *unreadable)}
    if "verify" in verbs:
        for outcome in outcomes.values():
            with told(outcome):
                if problems := damaged(outcome.model, layout):
                    raise VerifyError("\n".join([*problems, "`make archive` builds it again"]))
    whole = {name: recipe for name, recipe in recipes.items() if not outcomes[name].error}
    built = build(whole, steps_up_to(furthest(verbs)), layout, jobs=args.jobs)
    outcomes |= {outcome.model: outcome for outcome in built}
    from pipeline.summary import summarise

    return summarise([*outcomes.values()], verbs, layout, debug=args.debug) or code


def _for_all(show: Callable[[dict[str, Recipe], Layout], int], models: str, layout: Layout) -> int:
    """Show the models whose recipes can be read, then what is wrong with the others."""
    recipes, unreadable = _load(_names(models), layout)
    code = show(recipes, layout)
    for error in unreadable.values():
        print(f"marwright: {error}", file=sys.stderr)
        code = error.exit_code
    return code


def _names(text: str) -> list[str]:
    names = [name for name in (part.strip() for part in text.split(",")) if name]
    if text and not names:
        raise UsageError(f"--model {text!r} names no model")
    return names


def _load(names: list[str], layout: Layout) -> tuple[dict[str, Recipe], dict[str, RecipeError]]:
    for name in names:
        if "/" in name or name.endswith(".toml"):
            raise RecipeError(f"{name}: give the model's name, {Path(name).stem!r}")
    return load_recipes(layout.recipes, names)
