"""Loss curves of every optimizer against a float one's, on three models: docs/accuracy.md's table and plots.

The float one is torch's own. LAMB's is that of :mod:`bench.float_peers`, since torch has none, and Adafactor has a
second peer: torch's, given each convolution's kernels as the matrix that this project factors.

``python -m bench.curves run --seconds 150`` trains what is not in bench/curves.json yet and stops after so long; call
it until it says that nothing is left. ``python -m bench.curves docs`` makes table and plots of what is there.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import nn

from bench.float_peers import AsMatrices, FloatLamb
from producer import digits
from producer.task import Task
from zk_autograd.optim import SGD, Adafactor, Adam, AdamW, Lamb
from zk_autograd.statement import STATEMENTS

STEPS, EVERY = 200, 20
SEEDS = range(5)
FOLDER = Path(__file__).parent
RESULTS = FOLDER / "curves.json"
DOCS = FOLDER.parent / "docs"
LIMIT = 0.02

Record = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """One optimizer, by its statement: its class here and elsewhere, and the options that both take."""

    kind: str
    options: dict[str, Any]
    wide: bool = False
    peer: str = "torch"


L2, FAINT, DECAY = {"weight_decay": 5e-4}, {"weight_decay": 1e-4}, {"weight_decay": 0.1}
ADAM, MAX, MOMENTUM = {"lr": 1e-3}, {"amsgrad": True}, {"lr": 0.02, "momentum": 0.9}
SETTINGS = {
    "adam": Setting("Adam", ADAM),
    "adam-wide": Setting("Adam", ADAM, wide=True),
    "adam-l2": Setting("Adam", ADAM | FAINT),
    "adamw": Setting("AdamW", ADAM | DECAY),
    "adamw-wide": Setting("AdamW", ADAM | DECAY, wide=True),
    "amsgrad": Setting("Adam", ADAM | MAX),
    "amsgrad-l2": Setting("Adam", ADAM | MAX | FAINT),
    "amsgradw": Setting("AdamW", ADAM | MAX | DECAY),
    "sgd": Setting("SGD", {}),
    "sgd-l2": Setting("SGD", L2),
    "momentum": Setting("SGD", MOMENTUM),
    "momentum-l2": Setting("SGD", MOMENTUM | L2),
    "nesterov": Setting("SGD", MOMENTUM | {"nesterov": True}),
    "nesterov-l2": Setting("SGD", MOMENTUM | {"nesterov": True} | L2),
    "lamb": Setting("Lamb", {"lr": 2e-3}, peer="float"),
    "adafactor-64": Setting("Adafactor", {"lr": 1e-2}),
    "adafactor-64 torch given matrices": Setting("Adafactor", {"lr": 1e-2}, peer="torch as matrices"),
}
"""By statement, and what else there is to say behind a space."""
SAME = {"adafactor-16", "adafactor-256"}
"""Other row lengths train the same but for rounding (``tests/optim/test_adafactor.py``)."""
OURS: dict[str, Callable[..., Any]] = {"Adam": Adam, "AdamW": AdamW, "SGD": SGD, "Lamb": Lamb, "Adafactor": Adafactor}
PEERS: dict[str, Callable[..., Any]] = {"float": FloatLamb, "torch as matrices": AsMatrices}


@dataclass(frozen=True)
class Model:
    """A task, and clipping bounds that suit it: above all its gradients under SGD, above nearly all under Adam.

    Adam and LAMB divide by the gradients' size, so what their largest few would count for is little beside resolution.
    """

    title: str
    task: Callable[[int, int], Task]
    sgd: float
    adam: float
    adafactor: float = 1.0
    batch: int = 128
    rate: float = 0.1
    """Of plain SGD."""
    lamb: int = 600
    """Steps with LAMB: its first 200 at that rate take two of the models nowhere."""

    def options(self, setting: Setting) -> dict[str, Any]:
        """What torch's optimizer and this project's both take."""
        return {"lr": self.rate} | setting.options

    def clip(self, setting: Setting) -> float:
        """The bound for an optimizer."""
        return {"SGD": self.sgd, "Adafactor": self.adafactor}.get(setting.kind, self.adam)

    def steps(self, setting: Setting) -> int:
        """How long an optimizer trains."""
        return self.lamb if setting.kind == "Lamb" else STEPS


MODELS = {
    "mlp": Model("perceptron", digits.mlp, sgd=0.125, adam=0.125, adafactor=0.5),
    "convnet": Model("convolutional net", digits.convnet, sgd=1.0, adam=0.25),
    "transformer": Model("transformer", digits.transformer, sgd=1.0, adam=0.25, batch=64, rate=0.05, lamb=STEPS),
}


def train(model: Model, make: Callable[[Any], Any], seed: int, steps: int = STEPS) -> Record:
    """One run: loss over all images after every twentieth step, and the gradients' story.

    ``largest`` is the largest gradient element; ``underflow`` and ``saturated`` are shares of all elements that became
    zero or were clipped, ``limited`` is a count.
    """
    task = model.task(seed, model.batch)
    optimizer = make(task.model.parameters())
    counts = dict.fromkeys(("underflow", "saturated", "limited"), 0)
    curve, largest = [], 0.0
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        task.loss(step).backward()  # type: ignore[no-untyped-call]
        largest = max(largest, *(float(p.grad.abs().max()) for p in task.model.parameters() if p.grad is not None))
        optimizer.step()
        for name in counts:
            counts[name] += getattr(getattr(optimizer, "last_step", None), name, 0)
        if step % EVERY == 0 or step == steps:
            curve.append(round(evaluate(task.model), 6))
    elements = steps * sum(p.numel() for p in task.model.parameters())
    shares = {name: counts[name] / elements for name in ("underflow", "saturated")}
    return {"loss": curve[-1], "curve": curve, "largest": largest, "limited": counts["limited"]} | shares


@torch.no_grad()
def evaluate(model: nn.Module) -> float:
    """Cross entropy over all images."""
    images, labels = digits.data()
    return float(nn.functional.cross_entropy(model(images), labels))


def peer(model: Model, setting: Setting) -> Callable[[Any], Any]:
    """Makes the float optimizer, torch's own where there is one."""
    kind = PEERS[setting.peer] if setting.peer in PEERS else getattr(torch.optim, setting.kind)
    return lambda parameters: kind(parameters, **model.options(setting))


def ours(model: Model, setting: Setting) -> Callable[[Any], Any]:
    """Makes this project's optimizer."""
    options = model.options(setting) | {"clip": model.clip(setting)} | ({"wide": True} if setting.wide else {})
    return lambda parameters: OURS[setting.kind](parameters, **options)


def called(key: str, setting: Setting, seed: int, side: str) -> str:
    """The name of a run: all that it depends on."""
    model = MODELS[key]
    options = json.dumps(model.options(setting), sort_keys=True)
    end = setting.peer if side == "torch" else f"ours{' wide' * setting.wide} clip {model.clip(setting):g}"
    longer = "" if (steps := model.steps(setting)) == STEPS else f" {steps} steps"
    return f"{key} batch {model.batch} seed {seed} {setting.kind} {options} {end}{longer}"


def jobs() -> dict[str, tuple[Model, Callable[[Any], Any], int, int]]:
    """Every run by its name."""
    found = {}
    for seed in SEEDS:
        for key, model in MODELS.items():
            for setting in SETTINGS.values():
                for side, make in (("torch", peer), ("ours", ours)):
                    job = (model, make(model, setting), seed, model.steps(setting))
                    found[called(key, setting, seed, side)] = job
    return found


def results() -> dict[str, Record]:
    """What is on file."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def save(done: dict[str, Record]) -> None:
    """Puts records on file, one a line."""
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(done[name])}" for name in sorted(done))
    RESULTS.write_text(f"{{\n{lines}\n}}\n")


def run(seconds: float) -> None:
    """Trains what is missing until the time is up; drops what no job asks for."""
    began, wanted = time.process_time(), jobs()
    done = {name: record for name, record in results().items() if name in wanted}
    for name, job in wanted.items():
        if name not in done and time.process_time() - began < seconds:
            done[name] = train(*job)
            save(done)
    print(f"{len(wanted) - len(done)} of {len(wanted)} runs left")


def of(done: dict[str, Record], key: str, name: str, side: str) -> list[Record]:
    """The records of one optimizer on one model, in the seeds' order."""
    return [done[called(key, SETTINGS[name], seed, side)] for seed in SEEDS]


def off(done: dict[str, Record], key: str, name: str) -> float:
    """By how much the mean of our final losses differs from the peer's."""
    mine, peers = (fmean(r["loss"] for r in of(done, key, name, side)) for side in ("ours", "torch"))
    return mine / peers - 1


def table(done: dict[str, Record]) -> str:
    """Final losses, in Markdown: one row per optimizer, one column group per model."""
    heads = [f"{model.title}: torch | against torch | to zero" for model in MODELS.values()]
    lines = ["| statement | " + " | ".join(heads) + " |", "|---" * (1 + 3 * len(MODELS)) + "|"]
    for name in SETTINGS:
        statement, _, more = name.partition(" ")
        cells = [f"`{statement}`" + f", {more}" * bool(more)]
        for key in MODELS:
            peers, mine = of(done, key, name, "torch"), of(done, key, name, "ours")
            change = off(done, key, name)
            cells += [f"{fmean(r['loss'] for r in peers):.4f}", f"**{change:+.2%}**" + " (!)" * (abs(change) >= LIMIT)]
            cells.append(f"{fmean(r['underflow'] for r in mine):.1%}")
            if any(r["limited"] for r in mine):
                raise AssertionError(f"{key}, {name}: a step was limited; docs/accuracy.md says none is")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(done: dict[str, Record], key: str, path: Path) -> None:
    """One panel per optimizer: the peer's mean curve, ours, and the range of the seeds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, -(-len(SETTINGS) // 3), figsize=(15, 7.5), sharey=True)
    for axis in axes.flat[len(SETTINGS) :]:
        axis.axis("off")
    for axis, name in zip(axes.flat, SETTINGS, strict=False):
        for side, style in (
            ("torch", {"color": "black", "lw": 3, "alpha": 0.35}),
            ("ours", {"color": "tab:blue", "lw": 1}),
        ):
            curves = [r["curve"] for r in of(done, key, name, side)]
            at = [EVERY * (i + 1) for i in range(len(curves[0]))]
            axis.plot(at, [fmean(c) for c in zip(*curves, strict=True)], label=side, **style)
            low, high = ([f(c) for c in zip(*curves, strict=True)] for f in (min, max))
            axis.fill_between(at, low, high, color=style["color"], alpha=0.12, lw=0)
        axis.set_title(name.replace(" ", ": ", 1), fontsize=9)
        axis.set_yscale("log")
    axes[0, 0].legend(axes[0, 0].lines, ["float32", "fixed point"], fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("step")
    for axis in axes[:, 0]:
        axis.set_ylabel("loss")
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


BEGIN, END = "<!-- measured: python -m bench.curves -->", "<!-- end of curves -->"


def docs() -> None:
    """Puts table and plots into docs/."""
    done = results()
    page = DOCS / "accuracy.md"
    text = page.read_text()
    page.write_text(f"{text.split(BEGIN)[0]}{BEGIN}\n{table(done)}\n{END}{text.split(END)[1]}")
    for key in MODELS:
        plot(done, key, DOCS / "img" / f"curves-{key}.png")


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "docs"))
    parser.add_argument("--seconds", type=float, default=150, help="processor time to train for (default: 150)")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)  # the models are small: more threads only wait for each other
    if {name.partition(" ")[0] for name in SETTINGS} | SAME != set(STATEMENTS):
        raise AssertionError("an optimizer has no setting here, or a setting no optimizer")
    if arguments.what == "run":
        run(arguments.seconds)
    else:
        docs()


if __name__ == "__main__":
    main()
