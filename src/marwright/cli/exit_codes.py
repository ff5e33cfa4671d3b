"""What the exit status of a command means, in one table."""

from __future__ import annotations

# How a command ended, for a script: the table of docs/reference/commands.md.
EXIT_CODES = {
    0: "all is well",
    1: "several models failed in different ways, a step's process died, or another run is at work",
    2: "the command line is wrong",
    3: "a recipe is missing, cannot be read, or declares something impossible",
    4: "an archive or a build output is not what it was recorded to be",
    5: "the data cannot be used as the recipe says",
    6: "training cannot go on, is not above its baseline, or did not reach `minimum_metric`",
    7: "the model cannot be traced or exported faithfully",
    8: "the parity gate: TorchScript or ONNX disagrees with the checkpoint",
    9: "an archive cannot be written as asked",
    10: "the model store refuses an archive",
    11: "the server cannot start, answer or stop, or ended by itself",
    12: "the machine refuses: a disk is full, something may not be written or has gone, no memory",
    13: "a package that the command needs is not installed, or in another version",
    14: "an archive's handler was not tried, because TorchServe is not installed",
    129: "its terminal was closed (SIGHUP)",
    130: "interrupted (Ctrl-C)",
    143: "told to end (SIGTERM)",
}
