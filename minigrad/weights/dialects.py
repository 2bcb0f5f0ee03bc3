"""Names of the same weights in different collections, and finding out which of them a file speaks.

A network is published by several projects whose modules have other names: torchvision (whose names minigrad's models have, where
it has the model), timm, Cadene's pretrained-models, and collections for CIFAR-10. A *dialect* turns the keys of a file into ours.
The one whose keys fit the model best is taken, and none if the keys fit as they are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

__all__ = ["DIALECTS", "recognize"]

Renaming = Callable[[Iterable[str]], dict[str, str]]

PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.")  # of wrappers: DataParallel, compiled modules, trainers

# Dialect -> what is replaced in a key, in order.
RULES: dict[str, list[tuple[str, str]]] = {
    "DenseNet before 2018": [  # "denselayer1.norm.1.weight": module names must not hold dots any more
        (
            r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.(?:weight|bias|running_mean|running_var|num_batches_tracked))$",
            r"\1\2",
        )
    ],
    "torchvision": [(r"\bdownsample\.", "shortcut."), (r"^fc\.", "linear.")],
    "CIFAR collections": [(r"\bshortcut\.", "downsample."), (r"^linear\.", "fc.")],
    "Cadene": [(r"^last_linear\.", "fc."), (r"^layer0\.(conv1|bn1)\.", r"\1.")],
    "Cadene, of other heads": [(r"^last_linear\.", "classifier.")],
    "timm VGG": [
        (r"^pre_logits\.fc1\.", "classifier.0."),
        (r"^pre_logits\.fc2\.", "classifier.3."),
        (r"^head\.fc\.", "classifier.6."),
    ],
}

BLOCK = re.compile(r"^blocks\.(\d+)\.(\d+)\.([a-z_0-9]+)\.(.*)$")  # of timm's mobile networks: stage, block, layer, the rest


def _by_rules(rules: list[tuple[str, str]]) -> Renaming:
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]

    def rename(keys: Iterable[str]) -> dict[str, str]:
        names = {}
        for key in keys:
            name = key
            for pattern, replacement in compiled:
                name = pattern.sub(replacement, name)
            names[key] = name
        return names

    return rename


def _timm_mobile(place: Callable[[int, int, Counter], str], widening: dict[str, str], plain: dict[str, str]) -> Renaming:
    """Of timm's networks of mobile blocks, whose layers have the same names in all of them.

    ``place(stage, block, blocks of each stage)``: our name of a block. ``widening``, ``plain``: our names of the layers of a
    block with and without a 1x1 convolution in front.
    """

    def rename(keys: Iterable[str]) -> dict[str, str]:
        keys = list(keys)
        found = [match.groups() for match in map(BLOCK.match, keys) if match]
        depths = Counter(stage for stage, _ in {(int(stage), int(block)) for stage, block, _, _ in found})
        wide = {(stage, block) for stage, block, layer, _ in found if layer == "conv_pwl"}
        last = f"features.{place(len(depths), 0, depths).split('.')[1]}"
        outside = {"conv_stem.": "features.0.0.", "bn1.": "features.0.1.", "conv_head.": f"{last}.0.", "bn2.": f"{last}.1."}
        names = {}
        for key in keys:
            match = BLOCK.match(key)
            if match:
                stage, block, layer, rest = match.groups()
                if layer == "se":
                    layer, _, rest = f"se.{rest}".rpartition(".")
                name = (widening if (stage, block) in wide else plain).get(layer)
                names[key] = f"{place(int(stage), int(block), depths)}.{name}.{rest}" if name else key
            else:
                start = key.partition(".")[0] + "."
                names[key] = (
                    outside[start] + key[len(start) :] if start in outside else re.sub(r"^classifier\.", "classifier.1.", key)
                )
        return names

    return rename


def _block_of_mobilenet(stage: int, block: int, depths: Counter) -> str:
    return f"features.{1 + sum(depths[s] for s in range(stage)) + block}.conv"


def _block_of_efficientnet(stage: int, block: int, depths: Counter) -> str:
    return f"features.{stage + 1}.{block}.block"


DIALECTS: dict[str, Renaming] = {
    **{name: _by_rules(rules) for name, rules in RULES.items()},
    "timm MobileNetV2": _timm_mobile(
        _block_of_mobilenet,
        {"conv_pw": "0.0", "bn1": "0.1", "conv_dw": "1.0", "bn2": "1.1", "conv_pwl": "2", "bn3": "3"},
        {"conv_dw": "0.0", "bn1": "0.1", "conv_pw": "1", "bn2": "2"},
    ),
    "timm EfficientNet": _timm_mobile(
        _block_of_efficientnet,
        {
            **{"conv_pw": "0.0", "bn1": "0.1", "conv_dw": "1.0", "bn2": "1.1", "conv_pwl": "3.0", "bn3": "3.1"},
            **{"se.conv_reduce": "2.fc1", "se.conv_expand": "2.fc2"},
        },
        {
            **{"conv_dw": "0.0", "bn1": "0.1", "conv_pw": "2.0", "bn2": "2.1"},
            **{"se.conv_reduce": "1.fc1", "se.conv_expand": "1.fc2"},
        },
    ),
}


def recognize(keys: Iterable[str], targets: Mapping[str, object]) -> tuple[dict[str, str], str | None]:
    """Our name for each key of a file, and the name of the dialect; None if the keys are taken as they are.

    ``targets``: the keys of the model. Prefixes that all keys share and wrappers leave are taken away first.
    """
    keys = list(keys)
    bare = _without_prefixes(keys, targets)
    plain = dict(zip(keys, bare, strict=True))
    best, dialect = plain, None
    fitting = sum(name in targets for name in bare)
    for name, rename in DIALECTS.items():
        renamed = rename(bare)
        if len(set(renamed.values())) < len(renamed):
            continue  # two arrays would get one name, and one of them would be lost
        count = sum(new in targets for new in renamed.values())
        if count > fitting:
            best, dialect, fitting = {key: renamed[old] for key, old in plain.items()}, name, count
    return best, dialect


def _without_prefixes(keys: list[str], targets: Mapping[str, object]) -> list[str]:
    starts = tuple({key.partition(".")[0] + "." for key in targets})
    shortened = True
    while shortened and keys:
        shortened = False
        for prefix in PREFIXES:
            if prefix not in starts and all(key.startswith(prefix) for key in keys):
                keys, shortened = [key[len(prefix) :] for key in keys], True
    return keys
