"""Does a step's time depend on its data? ``python -m bench.constant_time`` compares different data, as dudect does.

Reparaz, Balasch & Verbauwhede, "Dude, is my code constant time?", DATE 2017: timings of two kinds of data, taken in
random order, are compared by Welch's t-test, on all of them and on the fastest shares; ``|t|`` above 4.5 means that
they differ. A small ``t`` is no proof: it means that so many timings on such a machine showed nothing.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from statistics import fmean, variance
from typing import Any

import torch

from zk_autograd.optim.blocks import Part
from zk_autograd.optim.fused import VARIANTS, Job, Kernels, Work
from zk_autograd.optim.paths import choose_path
from zk_autograd.statement import STATEMENTS

THRESHOLD = 4.5
SHARES = (1.0, 0.95, 0.9, 0.75, 0.5)
"""Of all timings, the fastest: the slowest are other programs' doing."""

P = 2**16 - 8
KINDS = ("zero", "saturated", "alternating", "random", "sparse")


def welch(x: Sequence[float], y: Sequence[float]) -> float:
    """Welch's t: the difference of the means over its standard error; 0 if nothing varies and they are equal."""
    spread = variance(x) / len(x) + variance(y) / len(y)
    difference = fmean(x) - fmean(y)
    return difference / spread**0.5 if spread else float("inf") * difference if difference else 0.0


def largest_t(timings: dict[str, list[float]]) -> tuple[float, str]:
    """The largest ``|t|`` of any two kinds over any share, and which it was."""
    found = []
    names = sorted(timings)
    for share in SHARES:
        pooled = sorted(x for some in timings.values() for x in some)
        end = pooled[int(share * len(pooled)) - 1]
        kept = {name: [x for x in some if x <= end] for name, some in timings.items()}
        for i, a in enumerate(names):
            for b in names[i + 1 :]:
                if min(len(kept[a]), len(kept[b])) > 1:
                    found.append((abs(welch(kept[a], kept[b])), f"{a} and {b}, fastest {share:.0%}"))
    return max(found)


def data(name: str, count: int, device: torch.device) -> dict[str, dict[str, torch.Tensor]]:
    """Gradients and states of each kind, all within the table."""
    st, generator = STATEMENTS[name], torch.Generator().manual_seed(1)
    fmt, found = st.choose_format(st.defaults, 1e-3, 1.0, P), {}
    for kind in KINDS:
        uniform = torch.rand(count, generator=generator)
        sign = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
        g = {
            "zero": torch.zeros(count), "saturated": torch.full((count,), 1e30),
            "alternating": torch.where(torch.arange(count) % 2 == 0, 0.0, 1e30),
            "random": uniform * sign, "sparse": torch.where(uniform < 0.01, sign, 0.0),
        }[kind]  # fmt: skip
        size = (g.abs().clamp(max=1.0) * 2.0**fmt.scale_g).to(torch.int64)
        # Moments as after many such gradients.
        state = {"w": size * 7 - 3, "m": size // 2, "v": size * size * 2, "h": size + size // 3}
        found[kind] = {n: state[n].to(device) for n in st.state} | {"g": g.to(device)}
    return found


def work_of(kernels: Kernels, name: str, count: int, device: torch.device) -> Work:
    """A step whose data is filled in: one place in memory for all kinds, or the place would tell them apart."""
    st = STATEMENTS[name]
    fmt = st.choose_format(st.defaults, 1e-3, 1.0, P)
    public = st.public_integers(st.defaults, 1e-3, 100, fmt, P)
    kept = {n: kernels.stored(n, P) for n in (*st.state, *st.hints, "g")}
    pre, post, hints = ({n: kernels.empty(kept[n]) for n in some} for some in (st.state, st.state, st.hints))
    g, image = (torch.empty(count, device=device) for _ in range(2))
    job = Job(public, fmt, [Part(0, g)])
    return Work(VARIANTS[name], P, pre, post, hints, kernels.empty(kept["g"]), image, [job])


def timer(device: torch.device) -> Callable[[Callable[[], Any]], float]:
    """Nanoseconds that a call takes, by the device's own clock if it has one."""
    if device.type != "cuda":

        def host(call: Callable[[], Any]) -> float:
            began = time.perf_counter_ns()
            call()
            return float(time.perf_counter_ns() - began)

        return host

    def gpu(call: Callable[[], Any]) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        return 1e6 * float(begin.elapsed_time(end))

    return gpu


def run(name: str, count: int, rounds: int, device: torch.device) -> dict[str, Any]:
    """Timings of each kind of data, in random order, and what the test makes of them."""
    path = choose_path(name, P, device, count)
    assert path.kernels is not None, str(path)
    kernels, clock = path.kernels, timer(device)
    work, kinds = work_of(kernels, name, count, device), data(name, count, device)
    order = [kind for kind in kinds for _ in range(rounds)]
    random.Random(1).shuffle(order)
    timings: dict[str, list[float]] = {kind: [] for kind in kinds}
    for kind in [*kinds, *order]:
        for n, x in kinds[kind].items():
            (work.jobs[0].parts[0].g if n == "g" else work.pre[n]).copy_(x)
        found: list[Any] = []
        taken = clock(lambda found=found: found.append(kernels.run(work)))  # type: ignore[misc]
        assert found[0] is not None and not found[0][0].undecided, f"{kind} leaves the table"  # noqa: PT018
        timings[kind].append(taken)
    timings = {kind: some[1:] for kind, some in timings.items()}  # the first compiled
    t, where = largest_t(timings)
    return {
        "statement": name, "path": path.name, "parameters": count, "rounds": rounds, "t": t, "between": where,
        "threshold": THRESHOLD, "differs": t > THRESHOLD,
        "median_us": {kind: sorted(some)[len(some) // 2] / 1000 for kind, some in timings.items()},
    }  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Prints what was found; exit code 1 if times differ."""
    p = argparse.ArgumentParser(
        prog="python -m bench.constant_time", description=__doc__,
        epilog="example: python -m bench.constant_time --statement sgd --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    p.add_argument("--statement", choices=sorted(VARIANTS), default="adam")
    p.add_argument("--parameters", type=int, default=1 << 20)
    p.add_argument("--rounds", type=int, default=1000, help="timings of each kind of data (default: %(default)s)")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--json", action="store_true")
    args = p.parse_args(argv)
    torch.set_num_threads(1)
    r = run(args.statement, args.parameters, args.rounds, torch.device(args.device))
    if args.json:
        print(json.dumps(r))
    else:
        print(f"{r['statement']} by {r['path']}, {r['parameters']} parameters, {r['rounds']} timings of each kind")
        print("median: " + ", ".join(f"{kind} {us:.1f} us" for kind, us in r["median_us"].items()))
        print(f"largest |t| = {r['t']:.1f} ({r['between']}): {'they differ' if r['differs'] else 'no difference seen'}")
    return int(r["differs"])


if __name__ == "__main__":
    sys.exit(main())
