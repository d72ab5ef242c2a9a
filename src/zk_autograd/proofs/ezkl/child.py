"""EZKL in a process of its own: ``python -m zk_autograd.proofs.ezkl.child`` takes one JSON job on standard input.

EZKL may hang, panic or take all memory; it reads a table cache that it trusts, and prints what it pleases. So it runs
here, with limits that the kernel enforces, a fresh private cache, and output that nobody forwards.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import resource
import signal
import sys
from typing import Any

from zk_autograd.tied import end_with_parent


def _restrain(memory: int, parent: int) -> None:
    """Die with the parent, leave no core dump, stay within ``memory`` bytes of address space."""
    end_with_parent(parent, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _call(function: Any, *args: Any) -> Any:
    """Some EZKL calls return awaitables in some versions."""

    async def waited() -> Any:
        result = function(*args)
        return await result if inspect.isawaitable(result) else result

    return asyncio.run(waited())


def _in_memory(name: str, folder: str, content: bytes = b"") -> str:
    """Path of a file for a secret: in anonymous memory, which no crash leaves behind, or else in ``folder``."""
    if hasattr(os, "memfd_create"):
        handle = os.memfd_create(name)
        path = f"/proc/self/fd/{handle}"
    else:
        path = os.path.join(folder, name)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(handle, "wb", closefd=False) as file:
        file.write(content)
    return path


def _witness(job: dict[str, Any], ezkl: Any) -> str:
    """Makes EZKL's witness file from the job's columns; RuntimeError if they do not satisfy the circuit."""
    data = json.dumps({"input_data": job.pop("columns")}).encode()
    source, target = _in_memory("input.json", job["folder"], data), _in_memory("witness.json", job["folder"])
    _call(ezkl.gen_witness, source, job["compiled"], target)
    return target


def _gen_srs(job: dict[str, Any], ezkl: Any) -> Any:
    return _call(ezkl.gen_srs, job["srs"], job["logrows"])


def _settings(job: dict[str, Any], ezkl: Any) -> Any:
    args = ezkl.PyRunArgs()
    # EZKL's defaults publish inputs and weights: every visibility is set here.
    args.input_visibility, args.output_visibility, args.param_visibility = "polycommit", "private", "fixed"
    args.input_scale = args.param_scale = 0
    args.scale_rebase_multiplier = 1
    args.logrows, args.num_inner_cols = job["logrows"], job["columns"]
    args.lookup_range = (0, job["P"] - 1)
    args.ignore_range_check_inputs_outputs = True
    # A dot product is laid out as such; EZKL's other way takes columns of its own.
    args.disable_freivalds = True
    return _call(ezkl.gen_settings, job["model"], job["settings"], args)


def _compile(job: dict[str, Any], ezkl: Any) -> Any:
    return _call(ezkl.compile_circuit, job["model"], job["compiled"], job["settings"])


def _setup(job: dict[str, Any], ezkl: Any) -> Any:
    return _call(ezkl.setup, job["compiled"], job["vk"], job["pk"], job["srs"])


def _mock(job: dict[str, Any], ezkl: Any) -> Any:
    try:
        return bool(_call(ezkl.mock, _witness(job, ezkl), job["compiled"]))
    except RuntimeError:
        # Both calls raise for a witness that does not satisfy the circuit; a crash is another exception.
        return False


def _prove(job: dict[str, Any], ezkl: Any) -> Any:
    witness = _witness(job, ezkl)
    return _call(ezkl.prove, witness, job["compiled"], job["pk"], job["proof"], job["srs"]) is not None


def _digest(job: dict[str, Any], ezkl: Any) -> Any:
    return _call(ezkl.create_evm_vka, job["vk"], job["settings"], job["artifact"], job["srs"])


_VERBS = {
    "gen_srs": _gen_srs,
    "settings": _settings,
    "compile": _compile,
    "setup": _setup,
    "mock": _mock,
    "prove": _prove,
    "digest": _digest,
}


def main() -> int:
    """Runs the job, prints ``{"ok": ...}`` on the real standard output."""
    job = json.load(sys.stdin)
    _restrain(int(job["memory"]), int(job["parent"]))
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever EZKL prints goes to stderr
    import ezkl

    result = _VERBS[job["verb"]](job, ezkl)
    used = resource.getrusage(resource.RUSAGE_SELF)
    facts = {"peak_memory": used.ru_maxrss * 1024, "cpu_seconds": used.ru_utime + used.ru_stime}
    json.dump({"ok": bool(result) if result is not None else True} | facts, answer)
    answer.flush()
    return 0


if __name__ == "__main__":
    # Without Python's own end, which EZKL's threads may still be running into: the answer is written.
    os._exit(main())
