"""``minigrad models``, ``summary`` and ``diff``: the architectures, and what they are made of."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add_diff", "add_models", "add_summary"]


def add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", metavar="WORD", nargs="*", help="only those with one of these words in the name")
    parser.set_defaults(run=_models)


def add_summary(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="an architecture of 'minigrad models'")
    parser.add_argument("--num-classes", type=int, metavar="N", help="outputs (default: the model's own)")
    parser.add_argument("--in-channels", type=int, metavar="N", help="channels of the image (default: the model's own)")
    _add_input(parser)
    parser.add_argument("--depth", type=int, metavar="N", help="levels of submodules to show (default: all)")
    parser.set_defaults(run=_summary)


def add_diff(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("models", metavar="MODEL", nargs=2, help="two architectures of 'minigrad models'")
    _add_input(parser)
    parser.set_defaults(run=_diff)


def _add_input(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--input", metavar="CxHxW", help="size of an image, as 3x224x224 (default: the model's own)")
    parser.add_argument("--image-size", type=int, nargs="+", metavar="PIXELS", help="one number, or height and width")


def _models(options: argparse.Namespace) -> None:
    from minigrad import models

    chosen = [n for n in models.list() if not options.words or any(word in n for word in options.words)]
    if not chosen:
        raise ValueError(f"no architecture has {' or '.join(map(repr, options.words))} in its name: see minigrad models")
    rows = [("name", "year", "parameters", "MACs", "input", "paper")]
    for m in map(models.info, chosen):
        shape = "x".join(map(str, m.input_shape))
        paper = f"{m.paper.title} ({m.paper.authors.split(',')[0]} et al.)" if "," in m.paper.authors else str(m.paper.title)
        rows.append((m.name, str(m.year), f"{m.parameters:,}", _macs(m.macs), shape, paper))
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    for name, year, parameters, macs, shape, paper in rows:
        print(f"{name:<{widths[0]}}  {year}  {parameters:>{widths[2]}}  {macs:>{widths[3]}}  {shape:<{widths[4]}}  {paper}")


def _macs(n: int) -> str:
    """ "4.09 G"."""
    return f"{n / 1e9:.3g} G" if n >= 1e9 else f"{n / 1e6:.3g} M"


def _input(options: argparse.Namespace, name: str) -> tuple[int, int, int]:
    """(C, H, W) that --input or --image-size give, or the model's own."""
    from minigrad import models
    from minigrad.kernels.geometry import pair

    channels, *size = models.info(name).input_shape
    if options.input is not None:
        if options.image_size is not None:
            raise ValueError("give --input or --image-size, not both")
        sizes = options.input.lower().split("x")
        if len(sizes) != 3 or not all(n.isdigit() and int(n) for n in sizes):
            raise ValueError(f"--input takes channels x height x width, as 3x224x224, got {options.input!r}")
        return tuple(int(n) for n in sizes)
    if options.image_size is not None:
        if len(options.image_size) > 2:
            raise ValueError(f"--image-size takes one number, or height and width, got {len(options.image_size)} numbers")
        size = pair(options.image_size[0] if len(options.image_size) == 1 else tuple(options.image_size), "--image-size", 1)
    return (getattr(options, "in_channels", None) or channels, *size)


def _described(options: argparse.Namespace, name: str, shape: tuple[int, int, int], depth: int | None = None) -> Any:
    """The summary of a model for images of a shape; its weights are not drawn, for nobody looks at them."""
    from minigrad import models
    from minigrad.nn import init
    from minigrad.training import summary

    channels = getattr(options, "in_channels", None) or shape[0]
    with init.skipped():
        model = models.create(name, getattr(options, "num_classes", None), channels)
    return summary(model, shape, depth)


def _summary(options: argparse.Namespace) -> None:
    from minigrad import models

    print(models.info(options.model).paper)
    print(_described(options, options.model, _input(options, options.model), options.depth))


def _diff(options: argparse.Namespace) -> None:
    from minigrad.training.difference import difference

    first, second = options.models
    shapes = [_input(options, name) for name in options.models]
    made = [_described(options, name, shape) for name, shape in zip(options.models, shapes, strict=True)]
    if shapes[0] != shapes[1]:
        print(
            f"{first} is made for {'x'.join(map(str, shapes[0]))} and {second} for {'x'.join(map(str, shapes[1]))}: see --input"
        )
    print(difference(*made, (first, second)))
