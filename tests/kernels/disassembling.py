"""``python -m tests.kernels.disassembling CAPABILITY P FLOAT NAME…``: counts each kernel's instructions, as JSON."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from zk_autograd.optim.fused import VARIANTS, stored
from zk_autograd.optim.gpu import _OPTIONS
from zk_autograd.triton_kernels import BLOCK
from zk_autograd.triton_kernels.adam import adam_step
from zk_autograd.triton_kernels.sgd import sgd_step

DISASSEMBLER = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "nvdisasm"


@triton.jit
def dividing(x, y, n):
    at = tl.program_id(0) * 128 + tl.arange(0, 128)
    tl.store(y + at, tl.load(x + at, mask=at < n) // tl.load(y + at, mask=at < n), mask=at < n)


def source(name: str, P: int, real: str) -> ASTSource:
    """A kernel as the optimizer launches it."""
    if name == "dividing":
        return ASTSource(dividing, {"x": "*i64", "y": "*i64", "n": "i32"}, {})
    variant = VARIANTS[name]
    pointers = {"numbers": "*i64", "g": f"*{real}", "out_image": f"*{real}", "counts": "*i64", "sums": "*fp64"}
    for kept in ("w", "m", "v", "h", "g", "s"):
        width = str(stored(kept, P)).removeprefix("torch.int")
        pointers |= {key: f"*i{width}" for key in (kept, f"out_{kept}") if key not in pointers}
    pointers["out_x"] = pointers["out_s"]
    constants: dict[str, Any] = {"P": P, "BLOCK": BLOCK}
    if variant.family == "adam":
        function = adam_step
        constants |= {"BITS": P.bit_length(), "DECAY": variant.decay, "AMSGRAD": variant.amsgrad}
    else:
        function, constants["KIND"] = sgd_step, variant.kind
    names = function.arg_names
    signature = {key: "constexpr" if key in constants else pointers.get(key, "i32") for key in names}
    return ASTSource(function, signature, constants)


def counted(capability: int, kernel: ASTSource) -> Counter[str]:
    """How often each instruction stands in its code."""
    made = triton.compile(kernel, target=GPUTarget("cuda", capability, 32), options=_OPTIONS)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        text = subprocess.run(
            [DISASSEMBLER, "-c", file.name], capture_output=True, text=True, check=True, timeout=60
        ).stdout  # fmt: skip
    found: Counter[str] = Counter()
    for line in text.splitlines():
        match = re.match(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9]*)", line)
        if match:
            found[match[1]] += 1
    return found


def main(words: list[str]) -> None:
    """Prints them."""
    capability, P, real, *names = words
    print(json.dumps({name: counted(int(capability), source(name, int(P), real)) for name in names}))


if __name__ == "__main__":
    main(sys.argv[1:])
