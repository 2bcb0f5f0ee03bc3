"""Recipes: the published values come out as rates, optimizers and images of a real job; options replace them."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from minigrad import models, nn
from minigrad.cli.training import model_options
from minigrad.nn import functional as F
from minigrad.optim import SGD, Adam, AdamW, RMSprop
from minigrad.tensor import Tensor
from minigrad.training import recipes
from minigrad.training.job import Job
from minigrad.training.options import Options
from minigrad.training.setting_up import make_loss, make_mixing, make_optimizer, make_schedule

# The learning rate in some epochs (from 0), as the papers state it.
RATES = {
    "resnet-cifar": {0: 0.1, 81: 0.1, 82: 0.01, 122: 0.01, 123: 0.001, 163: 0.001},
    "resnet110-cifar": {0: 0.01, 1: 0.1, 82: 0.01, 123: 0.001},
    "resnet-notes": {0: 0.1, 49: 0.1, 50: 0.01, 100: 1e-3, 150: 1e-4, 200: 1e-5, 250: 1e-6, 299: 1e-6},
    "wide-resnet-cifar": {0: 0.1, 59: 0.1, 60: 0.02, 120: 0.004, 160: 0.0008, 199: 0.0008},
    "densenet-cifar": {0: 0.1, 149: 0.1, 150: 0.01, 225: 0.001},
    "densenet-imagenet": {0: 0.1, 30: 0.01, 60: 0.001, 89: 0.001},
    "resnext-cifar": {0: 0.1, 150: 0.01, 225: 0.001},
    "resnext-imagenet": {29: 0.1, 30: 0.01, 60: 0.001},
    "senet-2017": {0: 0.6, 30: 0.06, 60: 0.006, 90: 0.0006},
    "mobilenet-v2": {0: 0.045, 1: 0.045 * 0.98, 100: 0.045 * 0.98**100},
    "efficientnet": {0: 0.0256, 5: 0.256 * 0.97**2, 12: 0.256 * 0.97**5, 349: 0.256 * 0.97**145},
    "unet-2015": {0: 3e-3, 19: 3e-3},
}
PLATEAU = ("alexnet-2012", "vgg-2014", "resnet-imagenet")


def a_net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 3))


def rates(options: Options, epochs: int) -> list[float]:
    """The rate of every epoch."""
    optimizer = make_optimizer(options, a_net())
    schedule, found = make_schedule(options, optimizer, 1), []
    optimizer.stepped = True  # nothing is learned here
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        if schedule is not None:
            schedule.step()
    return found


def test_every_recipe_is_tested_here():
    assert {*RATES, *PLATEAU} == set(recipes.RECIPES)


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_recipes_are_whole(name):
    options = Options.resolve(recipe=name)
    assert (options.recipe, options.data) == (name, recipes.RECIPES[name].data)
    assert options.model in models.list()
    for option in options.model_options:
        assert option in models.info(options.model).options
    assert options.source.split()[-1]
    assert Options.from_config(json.loads(json.dumps(dataclasses.asdict(options)))) == _listed(options)


def _listed(options: Options) -> Options:
    """JSON has lists in the place of tuples."""
    return dataclasses.replace(options, milestones=options.milestones and list(options.milestones))


@pytest.mark.parametrize("name", RATES)
def test_rates_are_the_published_ones(name):
    options = Options.resolve(recipe=name)
    found = rates(options, options.epochs)
    for epoch, rate in RATES[name].items():
        assert found[epoch] == pytest.approx(rate, rel=1e-9), epoch


@pytest.mark.parametrize("name", PLATEAU)
def test_rates_fall_where_the_loss_stands_still(name):
    options = Options.resolve(recipe=name)
    optimizer = make_optimizer(options, a_net())
    schedule, found = make_schedule(options, optimizer, 1), []
    for loss in (3.0, 2.0, *[2.0] * 5, 1.0, *[1.0] * 5):
        schedule.step(loss)
        found.append(optimizer.param_groups[0]["lr"] / options.lr)
    assert found == pytest.approx([1] * 6 + [0.1] * 6 + [0.01])


def test_a_schedule_keeps_its_proportions_in_fewer_epochs():
    assert rates(Options.resolve(recipe="wide-resnet-cifar", epochs=20), 20) == pytest.approx(
        [0.1] * 6 + [0.02] * 6 + [0.004] * 4 + [0.0008] * 4
    )
    ours = rates(Options.resolve(recipe="efficientnet", epochs=35), 35)
    assert ours[5:] == pytest.approx([0.256 * 0.97 ** np.floor(10 * epoch / 2.4 + 1e-6) for epoch in range(5, 35)])
    assert rates(Options.resolve(recipe="resnet-cifar", epochs=1), 1) == [0.1]


@pytest.mark.parametrize("schedule", ["cosine", "step", "exponential", "constant"])
def test_warmup_rises_from_a_tenth_to_the_rate(schedule):
    options = Options.resolve(schedule=schedule, warmup=4, epochs=40, lr=1.0)
    plain = rates(dataclasses.replace(options, warmup=0, epochs=40 if schedule != "cosine" else 36), 40)
    found = rates(options, 40)
    rise = np.linspace(0.1, 1, 5)
    if schedule == "cosine":
        assert found[:5] == pytest.approx(rise)
        assert found[4:] == pytest.approx(plain[:36])
    else:
        assert found[:5] == pytest.approx(rise * plain[:5])
        assert found[5:] == pytest.approx(plain[5:])


@pytest.mark.parametrize(("optimizer", "kind"), [("sgd", SGD), ("rmsprop", RMSprop), ("adam", Adam), ("adamw", AdamW)])
def test_optimizers(optimizer, kind):
    options = Options.resolve(optimizer=optimizer, momentum=0.8, weight_decay=0.01, lr=0.2)
    made = make_optimizer(options, a_net())
    group = made.param_groups[0]
    assert type(made) is kind
    assert (group["lr"], group["weight_decay"]) == (0.2, 0.01)
    assert len(group["params"]) == 6
    if "momentum" in group:
        assert group["momentum"] == 0.8
    assert make_schedule(Options.resolve(optimizer=optimizer, schedule="one-cycle"), made, 3) is not None


def test_what_is_not_decayed():
    options = dataclasses.replace(Options.resolve(weight_decay=0.01), decay_all=False)
    groups = make_optimizer(options, a_net()).param_groups
    assert [(len(g["params"]), g["weight_decay"]) for g in groups] == [(2, 0.01), (4, 0.0)]
    assert {p.ndim for p in groups[0]["params"]} == {2, 4}
    assert {p.ndim for p in groups[1]["params"]} == {1}


def test_rates_by_depth():
    net = a_net()
    groups = make_optimizer(Options.resolve(lr=1.0, lr_factor=0.5, weights="x"), net).param_groups
    assert [g["lr"] for g in groups] == [0.25, 0.5, 1.0]
    assert groups[0]["params"][0] is net[0].weight
    schedule = make_schedule(Options.resolve(lr=1.0, lr_factor=0.5), make_optimizer(Options.resolve(lr_factor=0.5), net), 3)
    assert len(schedule.get_last_lr()) == 3


def test_loss_and_mixing():
    scores, classes = Tensor(np.float32([[1, 2, 0], [0, 0, 3]])), Tensor(np.array([0, 2]))
    smoothed = make_loss(Options.resolve(label_smoothing=0.1))(scores, classes)
    assert smoothed.item() == F.cross_entropy(scores, classes, label_smoothing=0.1).item()
    assert smoothed.item() != F.cross_entropy(scores, classes).item()
    assert make_mixing(Options.resolve(), 3) is None
    assert repr(make_mixing(Options.resolve(mixup=0.3), 3)) == "Mixup(alpha=0.3, num_classes=3, p=1.0)"
    assert repr(make_mixing(Options.resolve(cutmix=1.0), 3)) == "CutMix(alpha=1.0, num_classes=3, p=1.0)"


# ---- options in the place of a recipe's values -------------------------------------------------------------------------


def test_options_replace_values():
    options = Options.resolve(recipe="wide-resnet-cifar", data="digits", lr=0.3, nesterov=False)
    assert (options.data, options.lr, options.nesterov, options.batch_size) == ("digits", 0.3, False, 128)
    assert options.model_options == {"dropout": 0.3}
    assert Options.resolve(recipe="wide-resnet-cifar", model_options={"dropout": 0.1}).model_options == {"dropout": 0.1}
    other = Options.resolve(recipe="wide-resnet-cifar", model="cifar_resnet14")
    assert (other.model, other.model_options, other.lr) == ("cifar_resnet14", {}, 0.1)


def test_options_of_models_are_read():
    assert model_options(None) is None
    assert model_options(["dropout=0.3", "norm=group", "bilinear=True"]) == {"dropout": 0.3, "norm": "group", "bilinear": True}
    with pytest.raises(ValueError, match=r"--model-option takes NAME=VALUE, as dropout=0\.3, got 'dropout'"):
        model_options(["dropout"])


def test_runs_from_before_there_were_recipes_are_read():
    saved = {"data": "digits", "model": "lenet5", "epochs": 2, "batch_size": 64, "lr": 0.1, "momentum": 0.9}
    saved |= {"weight_decay": 5e-4, "schedule": "one-cycle", "augment": False, "seed": 0, "device": "cpu"}
    assert Options.from_config(saved).augment == "none"
    assert Options.from_config({**saved, "augment": True}).augment == "standard"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"recipe": "resnet-cifr"}, "unknown recipe 'resnet-cifr': did you mean 'resnet-cifar'"),
        ({"optimizer": "lamb"}, "optimizer must be one of sgd, rmsprop, adam, adamw, got 'lamb'"),
        ({"augment": "all"}, "augment must be one of none, standard, alexnet, inception, elastic, got 'all'"),
        ({"normalize": "mean"}, "normalize must be one of own, imagenet, half, got 'mean'"),
        ({"label_smoothing": 1.0}, "label_smoothing must be at least 0 and below 1, got 1.0"),
        ({"ema": -0.1}, "ema must be at least 0 and below 1, got -0.1"),
        ({"mixup": -1.0}, "mixup must be at least 0, got -1.0"),
        ({"mixup": 1.0, "cutmix": 1.0}, "give mixup or cutmix, not both"),
        ({"warmup": 2.0}, "warmup does not go with the schedule one-cycle, which begins with a warm-up of its own"),
        ({"warmup": 2.0, "schedule": "plateau"}, "the schedule plateau, which follows the loss, not the epoch"),
        ({"nesterov": True, "optimizer": "adam"}, "nesterov needs the optimizer sgd and a momentum above 0"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov needs the optimizer sgd and a momentum above 0"),
        ({"lr_factor": 0.0}, "lr_factor must be above 0 and at most 1, got 0.0"),
        ({"ema": 0.9, "head_only": True, "weights": "x"}, "ema averages a model that learns as a whole: leave it out with"),
        ({"head_only": True}, "a part that is frozen before it has learned anything learns nothing: give weights"),
    ],
)
def test_wrong_options(given, message):
    with pytest.raises(ValueError, match=message):
        Options.resolve(**given)


# ---- whole jobs --------------------------------------------------------------------------------------------------------


def test_a_job_is_what_the_recipe_says():
    job = Job(Options.resolve(recipe="wide-resnet-cifar", data="digits", model="cifar_wrn40_1", model_options={"dropout": 0.3}))
    group = job.optimizer.param_groups[0]
    assert (group["momentum"], group["nesterov"], group["weight_decay"]) == (0.9, True, 5e-4)
    assert {m.p for m in job.model.modules() if isinstance(m, nn.Dropout)} == {0.3}
    assert job.train_loader.batch_size == 128
    assert "recipe wide-resnet-cifar: Zagoruyko" in job.describe()


def test_normalization_is_the_one_that_is_asked_for():
    constants = {"half": (0.5, 0.5), "own": (0.3058, 0.3762), "imagenet": (0.449, 0.226)}
    for normalize, (mean, std) in constants.items():
        job = Job(Options.resolve(recipe="resnet-notes", data="digits", normalize=normalize))
        values = np.concatenate([x.numpy().ravel() for x, _ in job.test_loader])
        assert (values.min(), values.max()) == pytest.approx((-mean / std, (1 - mean) / std), abs=1e-5)


def test_mixing_and_averages_go_into_the_job():
    job = Job(Options.resolve(model="lenet5", mixup=0.4, ema=0.99))
    assert repr(job.additions["mixing"]) == "Mixup(alpha=0.4, num_classes=10, p=1.0)"
    assert job.additions["ema"].model is job.model
    assert job.additions["ema"].decay == 0.99


def test_crops_are_cut_out_of_larger_images_of_a_folder(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    for kind, value in (("cats", 60), ("dogs", 200)):
        (tmp_path / kind).mkdir()
        for i in range(5):
            pillow.fromarray(np.full((40, 50, 3), value + i, np.uint8)).save(tmp_path / kind / f"{i}.png")
    given = {"data": "folder", "data_dir": str(tmp_path), "image_size": 28, "model": "cifar_resnet14", "batch_size": 4}
    for augment, kept in (("alexnet", 32), ("inception", 32), ("standard", 28), ("none", 28)):
        job = Job(Options.resolve(augment=augment, **given))
        assert job.image_shape == (3, kept, kept)
        for loader in (job.train_loader, job.test_loader):
            assert {tuple(x.shape[1:]) for x, _ in loader} == {(3, 28, 28)}
