"""What differs between two models: the alignment, the words, and the figures."""

from __future__ import annotations

import pytest

import minigrad as mg
from minigrad import models, nn
from minigrad.cli import main
from minigrad.nn import functional as F
from minigrad.training.difference import difference


def summaries(*networks, shape=(3, 16, 16)):
    return [mg.summary(net, shape) for net in networks]


def test_a_model_does_not_differ_from_itself():
    net = models.cifar_resnet20()
    found = difference(*summaries(net, models.cifar_resnet20()))
    assert all(change.same for change in found.changes)
    assert "+0 parameters, +0 MACs" in str(found)
    assert str(found).count("\n") == 4


def test_what_is_new_gone_and_changed():
    before = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3))
    after = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3))
    found = difference(*summaries(before, after))
    kinds = [(c.before and c.before.kind, c.after and c.after.kind) for c in found.changes]
    assert kinds == [
        ("Conv2d", "Conv2d"),
        (None, "BatchNorm2d"),
        ("ReLU", "ReLU"),
        ("MaxPool2d", None),
        ("Conv2d", "Conv2d"),
    ]
    words = found.changes[0].words
    assert "kernel size (5, 5) -> (3, 3)" in words
    assert "bias as usual -> False" in words
    assert f"{8 * 3 * 9 - 8 * 3 * 25 - 8:+,} parameters" in words
    assert f"{16 * 16 * 8 * 3 * (9 - 25):+,} MACs" in words
    assert found.changes[2].same
    assert found.changes[1].words[0].startswith("1 BatchNorm2d: new (8; output 1 x 8 x 16 x 16; 16 parameters")
    text = str(found)
    assert "layers: 0 -> 1 batchnorm2d, 1 -> 0 maxpool2d" in text
    changed = sum((c.after.macs if c.after else 0) - (c.before.macs if c.before else 0) for c in found.changes)
    assert changed == found.summaries[1].macs - found.summaries[0].macs


def test_a_rectifier_is_one_as_a_module_and_as_a_function():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return F.relu(self.conv(x))

    found = difference(*summaries(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), Net()))
    assert [c.same for c in found.changes] == [True, True]


def test_blocks_that_were_added_stand_together():
    found = difference(*summaries(models.cifar_resnet20(), models.cifar_resnet32(), shape=(3, 32, 32)))
    assert not any(c.after is None for c in found.changes)
    added = [c.after for c in found.changes if c.before is None]
    assert {row.path.rpartition(".")[0] for row in added} == {f"layer{stage}.{block}" for stage in (1, 2, 3) for block in (3, 4)}
    assert sum(row.parameters for row in added) == 464_154 - 269_722


def test_the_command(capsys):
    assert main(["diff", "lenet5", "cifar_resnet14", "--input", "3x32x32"]) == 0
    out = capsys.readouterr().out
    assert "lenet5: 62,006 parameters" in out
    assert "output channels 6 -> 16" in out
    assert main(["diff", "lenet5", "cifar_resnet14"]) == 0
    assert "lenet5 is made for 1x32x32 and cifar_resnet14 for 3x32x32: see --input" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["diff", "lenet5", "lenet6"], "did you mean 'lenet5'"),
        (["diff", "lenet5", "lenet5", "--input", "3x32"], "--input takes channels x height x width"),
        (["summary", "lenet5", "--input", "3x0x32"], "--input takes channels x height x width"),
        (["summary", "lenet5", "--input", "3x32x32", "--image-size", "32"], "not both"),
        (["models", "banana"], "no architecture has 'banana' in its name"),
    ],
)
def test_bad_arguments(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_summary_takes_an_input(capsys):
    assert main(["summary", "cifar_resnet14", "--input", "1x28x28", "--depth", "1"]) == 0
    assert "1 x 16 x 28 x 28" in capsys.readouterr().out


def test_models_lists_years_parameters_multiplications_and_papers(capsys):
    assert main(["models", "lenet5"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["name", "year", "parameters", "MACs", "input", "paper"]
    assert any(line.split()[:4] == ["lenet5", "1998", "61,706", "0.417"] and "Document Recognition" in line for line in lines)
