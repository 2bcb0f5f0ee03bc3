"""The command: what it prints, what it leaves, and one line with status 2 for every wrong call."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from minigrad import cli, models, weights
from minigrad.cuda import DeviceProperties
from tests.training.tiny import draw_pictures

SHORT = ("train", "--model", "lenet5", "--epochs", "2", "--max-steps", "30", "--progress", "lines")


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    """Every test runs in an empty folder, without data sets of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path / "no-data"))
    monkeypatch.delenv("MINIGRAD_DEBUG", raising=False)


def run(*arguments: str) -> int:
    try:
        return cli.main(arguments)
    except SystemExit as end:  # argparse
        return end.code


def fails(capsys, *arguments: str) -> str:
    """The one line of a call that must fail with status 2, and leave nothing."""
    before = sorted(Path().rglob("*"))
    capsys.readouterr()
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1, err
    assert err.startswith("minigrad: ")
    assert "Traceback" not in err + out
    assert sorted(Path().rglob("*")) == before
    return err[len("minigrad: ") :].strip()


@pytest.fixture
def a_run(capsys) -> Path:
    """The folder of a short run."""
    assert run(*SHORT, "--out", "here") == 0
    capsys.readouterr()
    return Path("here")


# ---- train -------------------------------------------------------------------------------------------------------------


def test_train_leaves_a_run_and_says_how_good_it_is(capsys):
    assert run("train", "--model", "lenet5", "--epochs", "2", "--progress", "lines") == 0
    out = capsys.readouterr().out
    assert "lenet5, 61,706 parameters" in out
    assert "1,438 training and 359 test images of 1 x 8 x 8 in 10 classes" in out
    assert len(re.findall(r"^epoch \d/2 ", out, re.MULTILINE)) == 2
    last = out.splitlines()[-1]
    share, right = re.fullmatch(
        r"test accuracy (\d+\.\d\d) % \((\d+) of 359 images of digits\)", last.replace("%", " %")
    ).groups()
    assert float(share) == pytest.approx(100 * int(right) / 359, abs=0.005)
    folder = Path("runs/digits-lenet5-1")
    names = {"config.json", "metrics.jsonl", "curves.png", "best.safetensors", "last.safetensors"}
    assert {p.name for p in folder.iterdir()} == names
    assert json.loads((folder / "config.json").read_text())["options"]["model"] == "lenet5"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert lines[-1]["test_top1"] == pytest.approx(int(right) / 359)
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_runs_are_numbered(capsys):
    for _ in range(2):
        assert run(*SHORT) == 0
    assert sorted(p.name for p in Path("runs").iterdir()) == ["digits-lenet5-1", "digits-lenet5-2"]
    assert "test accuracy" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        assert run(*SHORT, "--out", name, "--seed", seed, "--progress", "off") == 0
    a, b, c = map(_weights, "abc")
    for key in a:
        np.testing.assert_array_equal(a[key], b[key])
    assert any((a[key] != c[key]).any() for key in a)


def _weights(folder: str) -> dict[str, np.ndarray]:
    arrays = weights.load_file(Path(folder, "last.safetensors"))
    return {key: value for key, value in arrays.items() if key.startswith("model.")}


def test_resume_gives_the_bits_of_an_undisturbed_run(capsys):
    options = ("--model", "lenet5", "--epochs", "2", "--progress", "off")
    assert run("train", *options, "--out", "whole") == 0
    assert run("train", *options, "--out", "parts", "--max-steps", "17") == 0
    assert run("train", "--resume", "parts", "--progress", "off", "--workers", "2", "--threads", "1", "--max-steps", "31") == 0
    assert run("train", "--resume", "parts", "--progress", "off") == 0
    whole, parts = _weights("whole"), _weights("parts")
    assert whole.keys() == parts.keys()
    for key in whole:
        np.testing.assert_array_equal(whole[key], parts[key])
    assert run("train", "--resume", "parts", "--progress", "off") == 0  # a finished run has nothing left to do
    np.testing.assert_array_equal(_weights("parts")["model.fc3.weight"], whole["model.fc3.weight"])
    assert "test accuracy" in capsys.readouterr().out.splitlines()[-1]


def test_ctrl_c_leaves_a_run_that_can_be_continued():
    command = [sys.executable, "-m", "minigrad.cli", "train", "--model", "lenet5", "--epochs", "500", "--out", "here"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ.copy()) as process:
        for line in process.stdout:
            if line.startswith("epoch"):
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    step = int(re.search(r"stopped after step (\d+) .*here/last.safetensors", err).group(1))
    assert weights.load("here/last.safetensors")["progress"]["step"] == step
    assert run("train", "--resume", "here", "--max-steps", str(step + 1), "--progress", "off") == 0
    assert weights.load("here/last.safetensors")["progress"]["step"] == step + 1


def test_a_diverging_run_ends_with_one_line(capsys):
    status = run("train", "--model", "lenet5", "--lr", "1e6", "--schedule", "constant", "--out", "here", "--progress", "off")
    assert status == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert re.search(r"lower the learning rate \(now 1e\+06\).*here.last\.safetensors", err)
    assert Path("here/last.safetensors").exists()


def test_detect_anomaly_names_the_op(capsys):
    status = run("train", "--model", "lenet5", "--lr", "1e20", "--schedule", "constant", "--detect-anomaly", "--progress", "off")
    assert status == 2
    assert re.search(r"(NaN|Inf) of \d+ values in module conv1 \(Conv2d\)|holds \d+ (NaN|Inf)", capsys.readouterr().err)


@pytest.fixture
def pictures() -> Path:
    return draw_pictures(Path("pictures"))


def test_folders_of_images(pictures, capsys):
    status = run("train", "--data", "folder", "--data-dir", "pictures", "--image-size", "8", "--epochs", "1", "--out", "here")
    assert status == 0
    assert "16 training and 4 test images of 3 x 8 x 8 in 2 classes" in capsys.readouterr().out
    assert run("eval", "here") == 0
    assert "light" in capsys.readouterr().out


def test_images_that_are_too_small_get_a_border_and_too_large_ones_are_refused(pictures, capsys):
    folder = ("train", "--data", "folder", "--data-dir", "pictures", "--model", "lenet5", "--epochs", "1", "--progress", "off")
    assert run(*folder, "--image-size", "30", "--out", "here") == 0
    assert "lenet5 cannot take images of 64 x 64" in fails(capsys, *folder, "--image-size", "64")
    assert "images of 31 x 31 cannot be padded evenly to size 32 x 32" in fails(capsys, *folder, "--image-size", "31")


# ---- eval, models, summary, info ---------------------------------------------------------------------------------------


def test_eval_repeats_what_train_measured(a_run, capsys):
    best = json.loads((a_run / "metrics.jsonl").read_text().splitlines()[0])
    assert run("eval", "here") == 0
    out = capsys.readouterr().out
    assert f"top-1  {best['test_top1']:.2%}" in out
    assert f"loss   {best['test_loss']:.4f}" in out
    assert "top-5" in out
    table = [line.split() for line in out.splitlines()[-10:]]
    assert sum(int(n) for line in table for n in line[1:11]) == 359
    assert sum(int(line[1 + i]) for i, line in enumerate(table)) == round(best["test_top1"] * 359)
    for path in ("here/best.safetensors", "here/last.safetensors"):
        assert run("eval", path) == 0
        assert path in capsys.readouterr().out


def test_models_lists_every_architecture(capsys):
    assert run("models") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == models.list()
    assert all(f"{models.info(line.split()[0]).parameters:,}" in line for line in lines[1:])


def test_summary_shows_the_layers(capsys):
    assert (
        run("summary", "cifar_resnet20", "--num-classes", "100", "--in-channels", "1", "--image-size", "28", "--depth", "1") == 0
    )
    out = capsys.readouterr().out
    assert "Deep Residual Learning" in out
    assert "1 x 16 x 28 x 28" in out
    assert "1 x 100" in out
    assert "BasicBlock" not in out
    assert run("summary", "cifar_resnet20", "--image-size", "16", "24") == 0
    assert "1 x 64 x 4 x 6" in capsys.readouterr().out


def test_info_says_what_is_here_and_what_is_missing(capsys):
    assert run("info") == 0
    out = capsys.readouterr().out
    for word in ("minigrad", "numpy", "numba", "processor", "threads", "kernels", "GPU", "no-data: digits, mnist (not here)"):
        assert word in out


def test_info_says_what_is_slow(capsys, monkeypatch):
    """Stand-ins for machines that this one is not."""
    from minigrad.kernels.cpu._cache import CompilationStats
    from minigrad.training import report

    runtime = SimpleNamespace(runtimeGetVersion=lambda: 13020, driverGetVersion=lambda: 13010)
    cupy = SimpleNamespace(__version__="14.2.0", cuda=SimpleNamespace(runtime=runtime))
    monkeypatch.setattr(report.cpu, "vector_features", lambda: {"avx2", "sse2"})
    monkeypatch.setattr(report.cpu, "threading_layer", lambda: "workqueue")
    monkeypatch.setattr(report.cpu, "compilation_stats", CompilationStats)
    monkeypatch.setattr(report, "package_version", lambda name: None)
    monkeypatch.setattr(report, "module_for", lambda place: cupy)
    monkeypatch.setattr(report, "device_count", lambda: 2)
    monkeypatch.setattr(report, "get_device_properties", lambda i: DeviceProperties(f"card {i}", 9, i, 80 << 30, 132))
    assert run("info") == 0
    out = capsys.readouterr().out
    assert "vectors: AVX2" in out
    assert "(workqueue; slow to start: install tbb" in out
    assert "compiled anew in every run: set MINIGRAD_CACHE_DIR" in out
    cards = "card 0, 80.0 GiB, compute capability 9.0; card 1, 80.0 GiB, compute capability 9.1"
    assert re.search(rf"^GPU +{cards}; CUDA 13.2, driver for CUDA 13.1, CuPy 14.2.0$", out, re.MULTILINE)
    assert "not installed (for folders of images): pip install pillow" in out


def test_info_finds_data_sets(capsys, tmp_path, monkeypatch):
    folder = tmp_path / "sets" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        (folder / name).touch()
    monkeypatch.setenv("MINIGRAD_DATA", str(tmp_path / "sets"))
    assert run("info") == 0
    assert re.search(r"kmnist \(not here\), cifar10, cifar100 \(not here\)", capsys.readouterr().out)


def test_help(capsys):
    assert run("--help") == 0
    assert "summary" in capsys.readouterr().out
    assert run("train", "--help") == 0
    assert "--weight-decay" in capsys.readouterr().out


def test_the_installed_command_is_this_one():
    done = subprocess.run([sys.executable, "-m", "minigrad.cli", "models"], capture_output=True, text=True, check=True)
    assert "lenet5" in done.stdout


# ---- wrong calls -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "COMMAND"),
        ("trian", "invalid choice: 'trian'"),
        ("train --epochs two", "argument --epochs: invalid int value: 'two'"),
        ("train --epochs 0", "epochs must be at least 1, got 0"),
        ("train --batch-size 0", "batch_size must be at least 1, got 0"),
        ("train --lr -1", "lr must be at least 0, got -1"),
        ("train --lr nan", "lr must be at least 0, got nan"),
        ("train --momentum -0.5", "momentum must be at least 0"),
        ("train --seed -1", "seed must be at least 0"),
        ("train --amp fp8", "amp must be one of fp16, bf16, got 'fp8'"),
        ("train --max-steps 0", "max_steps must be an integer of at least 1, got 0"),
        ("train --schedule linear", "schedule must be one of one-cycle, cosine, step, exponential, plateau, constant, got"),
        ("train --model lenet6", "there is no model 'lenet6': did you mean 'lenet5'?"),
        ("train --data mnits", "unknown data set 'mnits': did you mean 'mnist'?"),
        ("train --data folder", 'data set "folder" needs'),
        ("train --data folder --data-dir nowhere", "nowhere"),
        ("train --image-size 8", "image_size is for folder, masks, cells; the other data sets have one size"),
        ("train --threads 0", "--threads: n must be from 1 to"),
        ("train --workers -1", "num_workers must be at least 0, got -1"),
        ("train --checkpoint-every soon", "checkpoint_every must be a number of steps"),
        ("train --device tpu", 'device must be "cpu", "cuda" or "cuda:INDEX", got \'tpu\''),
        ("train --progress loud", "argument --progress: invalid choice: 'loud'"),
        ("train --resume nowhere", "there is no folder nowhere"),
        ("eval", "RUN"),
        ("eval nowhere", "there is no file nowhere"),
        ("summary cifar_resnt20", "there is no model 'cifar_resnt20': did you mean 'cifar_resnet20'?"),
        ("summary lenet5 --image-size 28", "fc1: linear: expects 400 features, got 256"),
        ("summary lenet5 --image-size 0", "--image-size"),
        ("summary lenet5 --image-size 1 2 3", "--image-size takes one number, or height and width, got 3 numbers"),
        ("summary lenet5 --depth -1", "depth must be an integer of at least 0, got -1"),
        ("summary lenet5 --num-classes 0", "num_classes must be an integer of at least 1, got 0"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_wrong_calls(capsys, arguments, message):
    assert message in fails(capsys, *arguments.split())


def test_missing_data_say_which_file_to_put_where(capsys, monkeypatch):
    import urllib.request

    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    assert run("train", "--data", "mnist") == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "t10k-images-idx3-ubyte.gz could not be downloaded" in err
    assert "put it into" in err
    assert "train-labels-idx1-ubyte.gz" in err  # all files of the collection are named at once


def test_folders_that_are_in_the_way(capsys):
    Path("full").mkdir()
    Path("full/file").write_text("mine")
    assert "the folder full is not empty" in fails(capsys, *SHORT, "--out", "full")
    assert "full/file is a file" in fails(capsys, *SHORT, "--out", "full/file")
    assert "full is not the folder of a run" in fails(capsys, "train", "--resume", "full")
    assert Path("full/file").read_text() == "mine"


def test_errors_of_the_system_have_no_number(capsys, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device", "here/x")

    monkeypatch.setattr(models, "list", full)
    assert fails(capsys, "models") == "here/x: No space left on device"
    Path("file").touch()
    assert fails(capsys, *SHORT, "--out", "file/run") == f"cannot write to the folder {Path('file/run')}: Not a directory"


def test_a_run_cannot_be_continued_as_another_one(a_run, capsys):
    for option, value in (("--lr", "0.1"), ("--model", "lenet5"), ("--seed", "1"), ("--batch-size", "8"), ("--out", "x")):
        message = fails(capsys, "train", "--resume", "here", option, value)
        assert message == f"{option} cannot be changed in a run that is continued: leave it out"
    assert "--augment cannot be changed" in fails(capsys, "train", "--resume", "here", "--no-augment")


@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty", "flipped"])
def test_damaged_checkpoints(a_run, capsys, damage):
    for name in ("last.safetensors", "best.safetensors"):
        path = a_run / name
        content = bytearray(path.read_bytes())
        content[-5] ^= 1
        path.write_bytes({"truncated": content[:-100], "foreign": b"a text", "empty": b"", "flipped": content}[damage])
    assert re.search(r"here/last.safetensors is (not a whole|damaged)", fails(capsys, "train", "--resume", "here"))
    assert re.search(r"here/best.safetensors is (not a whole|damaged)", fails(capsys, "eval", "here"))


def test_a_damaged_config(a_run, capsys):
    (a_run / "config.json").write_text("{")
    assert "config.json is damaged" in fails(capsys, "train", "--resume", "here")
    (a_run / "config.json").write_text('{"options": {"model": "lenet5"}}')
    assert "its options are missing" in fails(capsys, "train", "--resume", "here")


def test_weights_of_another_program_cannot_be_evaluated(capsys):
    weights.save_file({"x": np.zeros(3)}, "foreign.safetensors")
    assert "foreign.safetensors cannot be evaluated: it was not written by minigrad train" in fails(
        capsys, "eval", "foreign.safetensors"
    )


def test_debug_shows_where(monkeypatch):
    monkeypatch.setenv("MINIGRAD_DEBUG", "1")
    with pytest.raises(ValueError, match="there is no model"):
        cli.main(["summary", "lenet6"])


def test_an_error_of_ours_is_not_taken_for_wrong_input(monkeypatch, capsys):
    def broken(*args, **kwargs):
        raise KeyError("lost")

    monkeypatch.setattr(models, "list", broken)
    assert run("models") == 1
    assert capsys.readouterr().err == "minigrad: KeyError: 'lost' (MINIGRAD_DEBUG=1 shows where)\n"


# ---- recipes -----------------------------------------------------------------------------------------------------------


def test_recipes_are_listed_and_shown(capsys):
    from minigrad.training.recipes import RECIPES

    assert run("recipes") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "model", "data", "epochs", "batch", "optimizer", "lr", "schedule"]
    assert [line.split()[0] for line in lines[1:]] == list(RECIPES)
    assert run("recipes", "wide-resnet-cifar") == 0
    out = capsys.readouterr().out
    assert re.search(r"^milestones +\(60, 120, 160\)$", out, re.MULTILINE)
    assert re.search(r"^model-options +{'dropout': 0.3}$", out, re.MULTILINE)
    assert "Zagoruyko and Komodakis 2016" in out
    assert "unknown recipe 'resnet': did you mean" in fails(capsys, "recipes", "resnet")


def test_train_follows_a_recipe_and_options_replace_its_values(capsys):
    options = (
        "--recipe",
        "resnet-notes",
        "--data",
        "digits",
        "--epochs",
        "6",
        "--max-steps",
        "2",
        "--ema",
        "0.9",
        "--mixup",
        "0.2",
    )
    assert run("train", *options, "--out", "here", "--progress", "lines") == 0
    out = capsys.readouterr().out
    assert "recipe resnet-notes: The recipe of the lecture notes" in out
    kept = json.loads(Path("here/config.json").read_text(encoding="utf-8"))["options"]
    assert (kept["recipe"], kept["model"], kept["epochs"], kept["batch_size"]) == ("resnet-notes", "cifar_resnet14", 6, 128)
    assert kept["milestones"] == [1, 2, 3, 4, 5]
    assert (kept["normalize"], kept["ema"], kept["mixup"], kept["lr"]) == ("half", 0.9, 0.2, 0.1)
    assert run("train", "--resume", "here", "--max-steps", "4", "--progress", "off") == 0
    assert "--model-option cannot be changed" in fails(capsys, "train", "--resume", "here", "--model-option", "dropout=0.1")
    assert "--recipe cannot be changed" in fails(capsys, "train", "--resume", "here", "--recipe", "resnet-cifar")
    assert run("eval", "here/last.safetensors") == 0


def test_train_in_mixed_precision(capsys):
    assert run("train", "--amp", "fp16", "--max-steps", "2", "--out", "here", "--progress", "off") == 0
    assert json.loads(Path("here/config.json").read_text(encoding="utf-8"))["options"]["amp"] == "fp16"
    assert run("train", "--resume", "here", "--max-steps", "4", "--progress", "off") == 0
    assert "--amp cannot be changed" in fails(capsys, "train", "--resume", "here", "--amp", "bf16")
    assert run("eval", "here/last.safetensors") == 0


def test_eval_of_a_checkpoint_takes_the_averages_of_the_weights(capsys):
    options = ("--lr", "0.02", "--schedule", "constant", "--epochs", "3", "--ema", "0.9", "--out", "here")
    assert run("train", *options, "--progress", "off") == 0
    line = json.loads(Path("here/metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert run("eval", "here/last.safetensors") == 0
    assert f"loss   {line['test_loss']:.4f}\n" in capsys.readouterr().out
