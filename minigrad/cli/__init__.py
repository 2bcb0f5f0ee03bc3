"""The ``minigrad`` command: train, recipes, eval, models, summary, diff, info, warmup.

Wrong input ends with one line on standard error and status 2, an interrupted run with 130, a diverged one with 1.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from minigrad.cli.architectures import add_diff, add_models, add_summary
from minigrad.cli.evaluating import add_eval
from minigrad.cli.machine import add_info, add_warmup
from minigrad.cli.training import add_recipes, add_train

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (those of the process by default); returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except KeyboardInterrupt as error:
        print(str(error) or "stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("MINIGRAD_DEBUG", "0") not in ("", "0"):
            raise
        return _fail(error)
    return 0


def _fail(error: Exception) -> int:
    """Say in one line what is wrong; returns the exit status."""
    from minigrad.training import DivergedError

    text = str(error)
    if isinstance(error, OSError) and error.strerror:  # without the number in front
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = " ".join(text.split()) or type(error).__name__
    known = isinstance(error, (ValueError, TypeError, OSError, RuntimeError, ImportError))
    if not known:
        text = f"{type(error).__name__}: {text} (MINIGRAD_DEBUG=1 shows where)"
    print(f"minigrad: {text}", file=sys.stderr)
    return 1 if isinstance(error, DivergedError) or not known else 2


# ---- arguments ---------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"minigrad: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="minigrad", description="Convolutional networks from scratch on NumPy.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)
    add_train(commands.add_parser("train", help="train a model (by default a ResNet on the digits that come with minigrad)"))
    add_recipes(commands.add_parser("recipes", help="list the published recipes of training, or show one"))
    add_eval(commands.add_parser("eval", help="evaluate a trained model on the test images of its data set"))
    add_models(commands.add_parser("models", help="list the architectures: year, parameters, MACs, paper"))
    add_summary(commands.add_parser("summary", help="show the layers of a model: shapes, parameters, MACs, receptive fields"))
    add_diff(commands.add_parser("diff", help="what differs between two architectures, layer by layer"))
    add_info(commands.add_parser("info", help="show what is installed here, what is fast, and what is missing"))
    warmup = "compile all kernels for this machine, so that nothing has to wait for that later"
    add_warmup(commands.add_parser("warmup", help=warmup))
    return parser
