"""Sessions of onnxruntime: on the CPU, and with all of its optimisations or with none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import onnxruntime

# Where a model that is given as bytes finds the weights that lie beside its file
# (onnxruntime_session_options_config_keys.h).
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
# Where onnxruntime was built, in many of its messages.
_BUILT_IN = re.compile(r"/\S+/(?=[\w.]+\.(?:h|cc|cpp):\d+)")


def open_session(
    model: Path | bytes, *, optimised: bool, threads: int, weights: Path | None = None
) -> Any:
    """Load an ONNX file, or a model in memory whose external weights lie in a folder.

    `threads` are the recipe's: how work is divided may change the last bits. Raises what
    onnxruntime raises; its exceptions share no public base but `Exception`.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Warnings are for who wrote the model; what is fatal is raised.
    options.log_severity_level = 4
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = (
        levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL
    )
    if weights is not None:
        options.add_session_config_entry(_WEIGHTS_FOLDER, str(weights))
    return onnxruntime.InferenceSession(
        model if isinstance(model, bytes) else str(model),
        sess_options=options,
        providers=["CPUExecutionProvider"],
    )


# How onnxruntime names the node that fails: while it runs, is loaded, is optimised; and how the
# checker of onnx does.
_NAMED = (
    re.compile(r"running \w+ node\. Name:\s*'(?P<name>[^']*)'"),
    re.compile(r"Node:?\s*\((?P<name>[^)]*)\)\s*Op:?\s*\(\w+\)"),
    re.compile(r"of node \((?P<name>[^)]*)\)"),
    re.compile(r'In Node, \("(?P<name>[^"]*)", \w+,'),
    re.compile(r"node with name '(?P<name>[^']*)'"),
    re.compile(r"\bnode name: (?P<name>[^)\s]*)\)"),
    re.compile(r"\bnode\. Name: (?P<name>\S*) OpType:"),
)


def named_node(error: str) -> str:
    """Return the name of the node that an error is about; empty without one."""
    found = next(filter(None, (pattern.search(error) for pattern in _NAMED)), None)
    return found["name"] if found else ""


def told(error: BaseException) -> str:
    """Return what onnx or onnxruntime says, in one line and without the folders it was built in."""
    return _BUILT_IN.sub("", " ".join(str(error).split())) or type(error).__name__
