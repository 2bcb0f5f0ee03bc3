"""Every kernel compiles for every generation of cards that is supported, by CUDA's own compiler, which needs no card."""

from __future__ import annotations

import json
import os
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests import beside
from tests.cuda.nvrtc import compile_for
from tests.cuda.on_device import cuda

CAPABILITIES = (75, 80, 90)  # Turing, where CUDA 13 begins; Ampere, the first with TF32 and bfloat16 products; Hopper
SINCE_80 = ("Tf32", "Bfloat16")  # products that older cards have not


def sources(capability: int, every: bool) -> dict[str, list[str]]:
    """File -> instances of its kernels: all of them, or one of each kernel, another one for each capability."""
    found = {}
    for kernel in cuda.module._compiler.KERNELS:
        instances = [e for e in kernel.instances.values() if capability >= 80 or not any(word in e for word in SINCE_80)]
        chosen = instances if every else instances[capability % len(instances) :][:1]
        found.setdefault(kernel.file, []).extend(chosen)
    return found


FILES = sorted(sources(90, False))


def compile_sources(every: bool, jobs: int = 1) -> dict:
    """File and compute capability -> what the compiler says."""

    def compile_one(job) -> dict:
        file, expressions, capability = job
        result, log = compile_for(capability, cuda.module._compiler.source(file), expressions, cuda.module._compiler.OPTIONS)
        spills = [line for line in log.splitlines() if "spill" in line and not re.search(r"\b0 bytes spill stores", line)]
        return {"result": result, "kernels": log.count("Compiling entry function"), "expected": len(expressions),
                "spills": spills, "log": log[:4000] if result else ""}  # fmt: skip

    work = [(file, expressions, c) for c in CAPABILITIES for file, expressions in sources(c, every).items()]
    with ThreadPoolExecutor(jobs) as executor:
        return {f"{file} {c}": found for (file, _, c), found in zip(work, executor.map(compile_one, work), strict=True)}


@pytest.mark.beside("CUDA sources")
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("file", FILES)
def test_compiles(file, capability):
    """One instance of each kernel; the C++ compiler that builds them for the processor sees all of them."""
    check(beside.result("CUDA sources")[f"{file} {capability}"], capability)


@pytest.mark.beside("CUDA kernels")
def test_every_instance_compiles_for_the_processor():
    """Early, and beside the tests that run them."""
    assert set(beside.result("CUDA kernels")) == set(FILES)


@pytest.mark.slow
def test_every_instance_compiles():
    for name, found in compile_sources(True, os.cpu_count() or 1).items():
        check(found, int(name.split()[1]))


def check(found: dict, capability: int) -> None:
    assert found["result"] == 0, found["log"]
    assert found["kernels"] == found["expected"] > 0
    if capability >= 80:
        assert not found["spills"], "registers do not suffice: a kernel keeps numbers in slow memory"


def test_every_file_is_used():
    folder = cuda.module._compiler.FOLDER
    text = "".join((folder / file).read_text(encoding="utf-8") for file in FILES)
    headers = {path.name for path in folder.glob("*.cuh")}
    assert {path.name for path in folder.glob("*.cu")} == set(FILES)
    included = set(re.findall(r'#include "(.*)"', text + "".join((folder / h).read_text(encoding="utf-8") for h in headers)))
    assert included == headers


def test_a_file_is_one_text():
    text = cuda.module._compiler.source("convolution.cu")
    assert "#include" not in text
    assert text.count("struct Real {") == 1


def test_only_one_file_speaks_to_the_machine():
    """The stand-in replaces machine.cuh, so nothing else may hold instructions of the card."""
    for path in cuda.module._compiler.FOLDER.glob("*.cu*"):
        if path.name != "machine.cuh":
            assert not re.search(r"\basm\b", path.read_text(encoding="utf-8")), path.name


if __name__ == "__main__":
    json.dump(compile_sources(False), sys.stdout)
