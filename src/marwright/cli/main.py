"""The command line: verbs, their options, and how their ends are told.

Nothing heavy is imported before it is needed: a build in which nothing is stale is over in a
tenth of a second.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from marwright.cli.alone import project_lock
from marwright.cli.pack import add_options as add_pack_options
from marwright.cli.pack_workflow import add_options as add_workflow_options
from marwright.pipeline.interrupt import Ended, end_at_once, on_signals
from marwright.pipeline.layout import Layout
from marwright.pipeline.machine import machine_error
from marwright.pipeline.plan import GOALS, STEPS, furthest, steps_of_quick_look, steps_up_to
from marwright.project import CONFIGURATION, TABLE, find_root
from marwright.recipe.errors import MarwrightError, RecipeError, UsageError, VerifyError
from marwright.recipe.extras import check_torch
from marwright.recipe.load import load_recipes
from marwright.recipe.paths import EXAMPLES, examples
from marwright.recipe.types import Recipe

Run = Callable[[argparse.Namespace, Layout], int]

# One line each, in the order of `--help`.
_BUILD_HELP = {
    "train": "train and trace: build/<model>/weights.safetensors and model.pt",
    "onnx": "... and export: build/<model>/model.onnx",
    "parity": "... and run the gate: build/<model>/parity.json and answers.json",
    "report": "... and draw: build/<model>/report.html, and build/index.html, which it opens",
    "archive": "... and pack, verify and publish: model_store/<model>.mar",
    "verify": "the same, after re-hashing every output; or check any .mar files given",
}
# Verbs that write below build/, or read there for as long as they run.
_WRITING = {
    *_BUILD_HELP, "serve", "release", "keep-worst", "summary", "lr-find", "study", "parity-zoo",
}  # fmt: skip
# Verbs that run a network in this process, or in copies of it.
_COMPUTING = {"summary", "lr-find", "study", "parity-zoo"}
# Verbs about files, which need no project.
_ANYWHERE = {
    "verify", "pack", "pack-workflow", "inspect", "diff", "run", "doctor", "new", "init",
}  # fmt: skip
# A gate takes up to 2 GiB; more of them at once are for a person to ask for.
_MOST_JOBS = 4
_INPUT_HELP = "a file, - for standard input, or JSON text"
_EPILOG = "Several build verbs may follow each other: one run builds up to the furthest."


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show tracebacks of errors")
    common.add_argument(
        "--project", metavar="DIR",
        help=f"the project's root; without it, the nearest folder with a [{TABLE}]",
    )  # fmt: skip
    top = argparse.ArgumentParser(
        prog="marwright",
        description="Turn declared models into TorchServe archives that are proven.",
        epilog=_EPILOG,
    )
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)

    def add(verb: str, about: str, run: Run) -> argparse.ArgumentParser:
        added = verbs.add_parser(verb, help=about, description=about, parents=[common])
        added.set_defaults(run=run)
        return added

    for verb, about in _BUILD_HELP.items():
        build = add(verb, about, _build)
        volume = build.add_mutually_exclusive_group()
        for flag, name, what in (
            ("-q", "quiet", "print errors only"),
            ("-v", "verbose", "print all that makes a step stale"),
        ):
            volume.add_argument(
                flag, f"--{name}", dest="volume", action="store_const", const=name,
                default="plain", help=what,
            )  # fmt: skip
        build.add_argument(
            "targets", nargs="*", metavar="TARGET",
            help="further build verbs; for verify: models, or archives",
        )  # fmt: skip
        _add_models(build)
        _add_jobs(build)
        if verb == "parity":
            build.add_argument(
                "--quick", action="store_true",
                help="a look at the gate in a fraction of its time; nothing is packed after it",
            )  # fmt: skip
        if verb == "verify":
            build.add_argument("--json", action="store_true", help="reports of files as JSON")
            build.add_argument(
                "--store", metavar="DIR", help="check a model store and every archive in it"
            )
            build.add_argument(
                "--sample", metavar="INPUT", action="append", default=[],
                help="send this to the handler of each file too, and show its answer; a file, - "
                "for standard input, or JSON text; may be given again",
            )  # fmt: skip
    for verb, about, show in (
        ("explain", "for every step: is it current, and if not, what changed", _explain),
        ("list", "a table of models, versions, metrics, exports and state", _list),
    ):
        shown = add(verb, about, show)
        _add_models(shown)
        shown.add_argument("--json", action="store_true", help="for machines")
    serve = add("serve", "run TorchServe on the model store until Ctrl-C", _serve)
    _add_models(serve)
    _add_port(serve)
    add("stop", "stop the server that `serve` started", _stop)
    predict = add("predict", "send an input to the running server and print its answer", _predict)
    predict.add_argument("--model", required=True, metavar="NAME", help="as in `list`")
    predict.add_argument("--input", required=True, metavar="INPUT", help=_INPUT_HELP)
    _add_port(predict)
    add_pack_options(add("pack", "pack any model, with torch-model-archiver's options", _pack))
    workflow = add("pack-workflow", "pack a workflow, with torch-workflow-archiver's options",
                   _pack_workflow)  # fmt: skip
    add_workflow_options(workflow)
    inspected = add("inspect", "an archive's card: manifest, members, metrics, parity", _inspect)
    inspected.add_argument("file", metavar="FILE")
    inspected.add_argument("--json", action="store_true")
    compared = add("diff", "what differs between two archives; exits with 1 if anything", _diff)
    compared.add_argument("files", nargs=2, metavar="FILE")
    ran = add("run", "send inputs to an archive's handler, in this process, without Java", _run)
    ran.add_argument("file", metavar="FILE", help="an archive")
    ran.add_argument("inputs", nargs="+", metavar="INPUT", help=_INPUT_HELP)
    begun = add("new", "write a project that trains, proves and serves at once", _new)
    begun.add_argument("folder", metavar="DIR", help="a folder that is not there, or is empty")
    _add_kind(begun)
    added = add("init", "add what is missing to make a repository a project", _init)
    _add_kind(added)
    release = add("release", "build everything from clean, run every gate, fill dist/", _release)
    release.add_argument("--version", required=True, metavar="V", help="as in 1.2.0")
    _add_jobs(release)
    kept = add("keep-worst", "keep the worst inputs that the gate found, to be tried first",
               _keep_worst)  # fmt: skip
    _add_models(kept)
    for verb, about, run in (
        ("summary", "a model's layers, what of it trains, from when and at which rate", _summary),
        ("lr-find", "try learning rates for a moment, and draw how the loss falls", _lr_find),
    ):
        _add_models(add(verb, about, run))
    studied = add("study", "train a recipe and its variants over several seeds", _study)
    _add_models(studied)
    _add_jobs(studied)
    zoo = add(
        "parity-zoo",
        "a quick look of the gate at every classification architecture of torchvision",
        _zoo,
    )
    zoo.add_argument("names", nargs="*", metavar="ARCHITECTURE", help="all of them without it")
    _add_jobs(zoo)
    zoo.add_argument("--threads", type=_positive, default=1, metavar="N", help="of each process")
    zoo.add_argument(
        "--memory", type=_positive, default=16, metavar="GIB", help="for all processes together"
    )
    zoo.add_argument("--again", action="store_true", help="what stands in the table as well")
    add("clean", "remove build/, model_store/ and dist/, unless something is at work", _clean)
    add("doctor", "versions of everything that matters, and what is wrong with them", _doctor)
    return top


def _add_models(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--model", default="", metavar="A,B", help="only these models; all recipes without it"
    )


def _add_jobs(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--jobs", type=_positive, default=min(_MOST_JOBS, _cores()), metavar="N",
        help="models, or trainings of a study, side by side; without it one a core, and four at "
        "most; changes no result",
    )  # fmt: skip


def _add_port(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--port", type=_positive, help="of the inference API; management is the next")


def _cores() -> int:
    # Those that this process may use; not every system can say which.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def main(arguments: list[str]) -> int:
    """Run a command line; returns the exit code. See `marwright.recipe.errors` for the codes."""
    args = parser().parse_args(arguments)
    run: Run = args.run
    try:
        layout = Layout(root=_root(args))
        with on_signals(), _at_work(args.verb, layout):
            if args.verb in _COMPUTING:
                check_torch()
            return run(args, layout)
    except (MarwrightError, OSError, MemoryError, ModuleNotFoundError) as error:
        known = error if isinstance(error, MarwrightError) else machine_error(error)
        if args.debug or known is None:
            raise
        print(f"marwright: {known}", file=sys.stderr)
        return known.exit_code
    except KeyboardInterrupt as end:
        end_at_once(end.number if isinstance(end, Ended) else signal.SIGINT)


def _root(args: argparse.Namespace) -> Path:
    """Return the project's root; the working folder where a verb needs no project."""
    if args.project is not None:
        root = Path(args.project)
        if not root.is_dir():
            raise UsageError(f"--project {args.project}: no such folder")
        return root.resolve()
    here = Path.cwd()
    try:
        found = find_root(here)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if found is None and args.verb not in _ANYWHERE:
        raise UsageError(
            f"{here}: no project: neither here nor above is a {CONFIGURATION} with a [{TABLE}]; go "
            "to one, name it with --project, or add that line"
        )
    return found or here


@contextmanager
def _at_work(verb: str, layout: Layout) -> Iterator[None]:
    """Let nobody clean up while a verb that writes is at work."""
    if verb not in _WRITING:
        yield
        return
    with project_lock(layout.root):
        yield


def _clean(args: argparse.Namespace, layout: Layout) -> int:
    from marwright.cli.clean import clean

    return clean(layout)


def _explain(args: argparse.Namespace, layout: Layout) -> int:
    from marwright.cli.explain import explain

    return _for_all(partial(explain, as_json=args.json), args.model, layout)


def _list(args: argparse.Namespace, layout: Layout) -> int:
    from marwright.cli.listing import list_models

    return _for_all(partial(list_models, as_json=args.json), args.model, layout)


def _serve(args: argparse.Namespace, layout: Layout) -> int:
    from marwright.serve.foreground import serve

    return serve(root=layout.root, port=args.port, models=_names(args.model))


def _stop(args: argparse.Namespace, layout: Layout) -> int:
    from marwright.serve.foreground import stop

    return stop(layout.root)


def _predict(args: argparse.Namespace, layout: Layout) -> int:
    from marwright.cli.predict import predict

    return predict(root=layout.root, model=args.model, input=args.input, port=args.port)


def _pack(args: argparse.Namespace, layout: Layout) -> int:
    from marwright.cli.pack import main

    return main(args)


def _pack_workflow(args: argparse.Namespace, layout: Layout) -> int:
    from marwright.cli.pack_workflow import main

    return main(args)


def _inspect(args: argparse.Namespace, layout: Layout) -> int:
    from marwright.cli.inspect import inspect

    return inspect(Path(args.file), layout, as_json=args.json)


def _diff(args: argparse.Namespace, layout: Layout) -> int:
    from marwright.cli.inspect import diff

    return diff(*map(Path, args.files))


def _run(args: argparse.Namespace, layout: Layout) -> int:
    from marwright.cli.run_file import run_file

    return run_file(Path(args.file), args.inputs)


def _release(args: argparse.Namespace, layout: Layout) -> int:
    from marwright.cli.release import release

    return release(args.version, layout, jobs=args.jobs)


def _keep_worst(args: argparse.Namespace, layout: Layout) -> int:
    from marwright.cli.keep_worst import keep_worst

    return keep_worst(_readable(args.model, layout), layout)


def _summary(args: argparse.Namespace, layout: Layout) -> int:
    from marwright.cli.look import look

    return look("summary", _readable(args.model, layout), layout, debug=args.debug)


def _study(args: argparse.Namespace, layout: Layout) -> int:
    from marwright.cli.study import study_models

    return study_models(_readable(args.model, layout), layout, jobs=args.jobs)


def _lr_find(args: argparse.Namespace, layout: Layout) -> int:
    from marwright.cli.look import look

    return look("lr-find", _readable(args.model, layout), layout, debug=args.debug)


def _zoo(args: argparse.Namespace, layout: Layout) -> int:
    from marwright.cli.parity_zoo import Limits, parity_zoo

    limits = Limits(jobs=args.jobs, threads=args.threads, memory_gib=args.memory)
    return parity_zoo(layout, args.names, limits, again=args.again)


def _add_kind(parser: argparse.ArgumentParser) -> None:
    from marwright.cli.new import KINDS

    parser.add_argument(
        "--kind", choices=KINDS, default="image", help="what its model reads (default: image)"
    )
    parser.add_argument("--name", help="of its model; without it, as the folder is called")


def _new(args: argparse.Namespace, layout: Layout) -> int:
    from marwright.cli.new import new

    return new(Path(args.folder), args.kind, args.name)


def _init(args: argparse.Namespace, layout: Layout) -> int:
    from marwright.cli.new import init

    return init(layout.root if args.project else Path.cwd(), args.kind, args.name)


def _doctor(args: argparse.Namespace, layout: Layout) -> int:
    from marwright.cli.doctor import main

    return main()


def _build(args: argparse.Namespace, layout: Layout) -> int:
    from marwright.pipeline.build import Outcome, build, damaged, told, with_parents

    verbs = [args.verb, *(target for target in args.targets if target in GOALS)]
    targets = [*(target for target in args.targets if target not in GOALS), *_names(args.model)]
    files = [target for target in targets if is_archive(target)]
    names = [target for target in targets if not is_archive(target)]
    if files and "verify" not in verbs:
        raise UsageError(f"{files[0]}: only `verify` takes archives")
    code = 0
    store: str | None = getattr(args, "store", None)
    if store == "":
        raise UsageError("--store names no folder")
    samples: list[str] = getattr(args, "sample", [])
    if samples and not (files or store):
        raise UsageError("--sample: names what is sent to an archive: name that too, as FILE.mar")
    if files or store:
        from marwright.cli.verify_files import verify_files

        folder = None if store is None else Path(store)
        as_json = getattr(args, "json", False)
        code = verify_files([*map(Path, files)], folder, as_json=as_json, samples=samples)
        if not names and set(verbs) == {"verify"}:
            return code
    recipes, unreadable = _load(names, layout)
    outcomes = {n: Outcome(model=n, error=unreadable.get(n)) for n in (*recipes, *unreadable)}
    if "verify" in verbs:
        # What starts from a damaged model would have it trained again, and nobody told.
        family = with_parents(recipes, STEPS, layout, outcomes)
        for outcome in outcomes.values():
            with told(outcome):
                if problems := damaged(outcome.model, layout):
                    raise VerifyError("\n".join([*problems, "`make archive` builds it again"]))
        for name, (recipe, _) in family.items():
            above = recipe.model.parent
            if above and outcomes[above].error and outcomes[name].error is None:
                error = MarwrightError(f"it starts from {above}, which is not in order")
                outcomes[name].error = error
        outcomes = {n: o for n, o in outcomes.items() if n in recipes or o.error}
    whole = {name: recipe for name, recipe in recipes.items() if not outcomes[name].error}
    if getattr(args, "quick", False):
        if verbs != ["parity"]:
            raise UsageError(f"--quick is for `parity` alone, not for {' '.join(verbs)}")
        steps = steps_of_quick_look()
    else:
        steps = steps_up_to(furthest(verbs))
    built = build(whole, steps, layout, jobs=args.jobs, volume=args.volume)
    outcomes |= {outcome.model: outcome for outcome in built}
    from marwright.cli.summary import summarise

    quiet = args.volume == "quiet"
    code = summarise([*outcomes.values()], verbs, layout, debug=args.debug, quiet=quiet) or code
    if "report" in verbs:
        from marwright.pipeline.facts import why_not_current
        from marwright.pipeline.keys import KeyMaker
        from marwright.pipeline.report import draw_index

        shown, others = _load_built(layout)
        keys = KeyMaker(layout)
        draw_index(
            shown,
            layout,
            failed_steps={n: o.failed_step for n, o in outcomes.items() if o.failed_step},
            stale={n: why_not_current(recipe, layout, keys) for n, recipe in shown.items()},
            unreadable={n: str(error) for n, error in others.items()},
        )
    return code


def is_archive(target: str) -> bool:
    """Whether a word on the command line means an archive, and not a model or a verb."""
    if target.endswith((".mar", ".war", ".tar.gz", ".tgz")):
        return True
    # A recipe of `examples/` is not named by its folder, which a message then says.
    return "/" in target and not target.removesuffix(".toml").startswith(f"{EXAMPLES}/")


def _for_all(show: Callable[[dict[str, Recipe], Layout], int], models: str, layout: Layout) -> int:
    """Show the models whose recipes can be read, then what is wrong with the others."""
    names = _names(models)
    recipes, unreadable = _load(names, layout) if names else _load_built(layout)
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


def _readable(models: str, layout: Layout) -> dict[str, Recipe]:
    """Read recipes, all of which must be right."""
    recipes, unreadable = _load(_names(models), layout)
    for error in unreadable.values():
        raise error
    return recipes


def _load_built(layout: Layout) -> tuple[dict[str, Recipe], dict[str, RecipeError]]:
    """Read all recipes, and those of `examples/` of which something has been built."""
    recipes, unreadable = _load([], layout)
    built = [name for name in examples(layout.recipes) if layout.folder(name).exists()]
    if built:
        more, others = _load(built, layout)
        recipes, unreadable = recipes | more, unreadable | others
    return recipes, unreadable


def _load(names: list[str], layout: Layout) -> tuple[dict[str, Recipe], dict[str, RecipeError]]:
    for name in names:
        if "/" in name or name.endswith(".toml"):
            raise RecipeError(f"{name}: give the model's name, {Path(name).stem!r}")
    return load_recipes(layout.recipes, names)
