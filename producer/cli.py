"""``zk-train``: trains a model in exact fixed-point arithmetic and publishes every step."""

from __future__ import annotations

import argparse
import io
import json
import math
import sys
import time
from dataclasses import replace
from typing import Any

from producer.optimizers import add_hyper, choices, make_optimizer
from producer.sampling import add_sampling, check_sampling, sampling_terms
from zk_autograd.cli import add_home, command_parser, run_command
from zk_autograd.errors import UsageError
from zk_autograd.home import Home
from zk_autograd.proofs import proof_system
from zk_autograd.proofs.base import PROFILES, Circuit
from zk_autograd.proofs.store import find_circuit, make_circuit

_EPILOG = """examples:
  zk-train --steps 100                                     digits, Adam, the log in the home folder
  zk-train --steps 50 --optimizer sgd --momentum 0.9 --lr 0.05 --log kafka://localhost:9092
  zk-train --steps 50 --prove sample:2                     proves two shards of each step, drawn once it is anchored
  zk-train --steps 20 --task mypackage.mymodel:task        your own model and loader, see docs/own-model.md
  USE_TRITON=1 zk-train --steps 100                        on the GPU, steps by Triton's kernels, see docs/gpu.md
A run that was interrupted goes on with the same --run-name.
"""


def parser() -> argparse.ArgumentParser:
    """The command line of ``zk-train``."""
    p = command_parser(
        "zk-train",
        "Train a model with an exact fixed-point optimizer; publish a signed event and an encrypted "
        "witness for every step.",
        _EPILOG,
    )
    p.add_argument("--steps", type=int, required=True, help="total steps of the run")
    p.add_argument(
        "--optimizer", choices=choices(), default="adam",
        help="update rule (default: adam)",
    )  # fmt: skip
    p.add_argument("--lr", type=float, help="learning rate (default: 0.05 for sgd, 0.01 for adafactor, else 0.001)")
    p.add_argument(
        "--lr-schedule",
        choices=("constant", "cosine", "step"),
        default="constant",
        help="declared before the run (default: constant)",
    )
    p.add_argument(
        "--betas",
        type=float,
        nargs=2,
        metavar=("B1", "B2"),
        help="of adam, adamw, lamb (default: 0.9 0.999)",
    )
    p.add_argument("--eps", type=float, help="of adam, adamw, lamb (default: 1e-8; 1e-6 for lamb)")
    p.add_argument("--max-ratio", type=float, help="of lamb: largest trust ratio (default: 10)")
    p.add_argument(
        "--amsgrad", action="store_true", default=None, help="of adam, adamw: divide by the largest root so far"
    )
    p.add_argument(
        "--wide", action="store_true", default=None,
        help="of adam, adamw: gradients 2^9 times as fine, proofs a fifth smaller",
    )  # fmt: skip
    p.add_argument("--momentum", type=float, help="of sgd; 0 is plain sgd (default: 0)")
    p.add_argument("--dampening", type=float, help="of sgd with momentum (default: 0)")
    p.add_argument("--nesterov", action="store_true", default=None, help="of sgd with momentum")
    p.add_argument(
        "--weight-decay",
        type=float,
        help="as torch's: of the weights for adamw and lamb, else L2 (default: 0.01 for these two, 0)",
    )
    add_hyper(p)
    p.add_argument("--clip", type=float, default=1.0, help="largest absolute gradient element kept (default: 1)")
    p.add_argument(
        "--no-decay-on-bias",
        action="store_true",
        help="parameters of one dimension get a group of their own, without weight decay",
    )
    p.add_argument(
        "--calibrate",
        type=int,
        default=0,
        metavar="N",
        help="choose each shard's clip and format from the gradients of the first N batches (default: --clip for all)",
    )
    p.add_argument(
        "--rescale", action="store_true", help="with each epoch fit the scales of gradients to those of the last"
    )
    p.add_argument(
        "--task", default="producer.digits:mlp", metavar="MODULE:FUNCTION", help="model and data (default: %(default)s)"
    )
    p.add_argument("--batch", type=int, default=128, help="examples a step (default: %(default)s)")
    p.add_argument(
        "--seed", type=int, default=0, help="of initial weights and order of the data (default: %(default)s)"
    )
    p.add_argument(
        "--profile",
        choices=sorted(PROFILES),
        default="default",
        help="size of one proof (default: default, of 2^16 rows)",
    )
    p.add_argument(
        "--epoch-steps", type=int, default=0, metavar="N",
        help="steps of an epoch, which the ledger closes and an auditor can verify as one unit (default: no epochs)",
    )  # fmt: skip
    p.add_argument(
        "--max-rounding", type=float, default=1.0, metavar="X",
        help="refuse a step whose gradient loses more than this share of its norm to rounding and clipping "
        "(default: 1, never)",
    )  # fmt: skip
    add_sampling(p)
    p.add_argument("--log", metavar="URL", help="event log (default: sqlite:///HOME/log.db)")
    p.add_argument(
        "--run-name", help="name of the run; an unfinished run of this name goes on (default: from the time)"
    )
    add_home(p)
    p.add_argument("--json", action="store_true", help="print one JSON object per step and one at the end")
    return p


def _exists(home: Home, name: str) -> bool:
    from producer.run_files import run_folder

    return (run_folder(home, name) / "run.json").exists()


def _circuit(home: Home, optimizer: str, profile: str, known: Any) -> Circuit:
    """The circuit for the job; made, for development, if there is none. ``known`` is what is on file of the run."""
    circuit = find_circuit(home, optimizer, profile, None if known is None else known.start.circuit_id)
    if known is not None and circuit is None:
        raise UsageError(
            f"this run uses another circuit ({known.start.circuit_id.hex()[:12]}) than {optimizer} of profile "
            f"{profile}; give its --optimizer, its options and its --profile, or another name"
        )
    if circuit is not None:
        proof_system(circuit.system).check_hiding(circuit)
        return circuit
    if home.policy_path.exists() and "DEV" not in home.policy().srs_classes:
        raise UsageError(
            f"no {optimizer} circuit of profile {profile} in {home.path}: "
            f"run zk-setup --optimizer {optimizer} --profile {profile} --srs FILE"
        )
    _tell(
        f"no {optimizer} circuit in {home.path}: making a DEVELOPMENT set-up (insecure SRS, simulated evidence). "
        "Auditors have to opt in to it. For real use run zk-setup --srs first."
    )
    return make_circuit(home, optimizer, profile, None, True, lambda line: _tell(f"  {line}"))


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _run(args: argparse.Namespace) -> int:
    if args.steps < 1:
        raise UsageError(f"--steps: expected at least 1, got {args.steps}")
    if args.batch < 1:
        raise UsageError(f"--batch: expected at least 1, got {args.batch}")
    if not 0 <= args.epoch_steps < 1 << 31:
        raise UsageError(f"--epoch-steps: expected at least 0, got {args.epoch_steps}")
    if not 0 <= args.max_rounding <= 1:
        raise UsageError(f"--max-rounding: expected 0 to 1, got {args.max_rounding}")
    check_sampling(args)
    if args.lr is not None and not (math.isfinite(args.lr) and args.lr > 0):
        raise UsageError(f"--lr: expected a learning rate above 0, got {args.lr!r}")
    if args.calibrate < 0:
        raise UsageError(f"--calibrate: expected at least 0, got {args.calibrate}")
    if args.rescale and not args.epoch_steps:
        raise UsageError("--rescale: scales change with epochs; give --epoch-steps")
    try:
        import torch
    except ImportError:
        raise UsageError("zk-train needs torch: pip install 'zk-autograd[train]'") from None
    from producer.device import place
    from producer.precision import calibrate, parameter_groups
    from producer.recorder import Recorder
    from producer.run_files import run_file
    from producer.schedules import declare
    from producer.task import load_task
    from schemas.wire import open_event_log

    home = Home(args.home)
    known = run_file(home, args.run_name) if args.run_name and _exists(home, args.run_name) else None
    if known is not None and known.finished:
        raise UsageError(f"run {args.run_name!r} is finished; choose another --run-name")
    task = load_task(args.task, args.seed, args.batch)
    place(task)
    # Before the circuit, which may take a minute to make.
    optimizer = make_optimizer(args, parameter_groups(task, args.no_decay_on_bias))
    if args.no_decay_on_bias and not any(hyper.get("weight_decay") for hyper in optimizer.groups):
        raise UsageError("--no-decay-on-bias: nothing decays; give --weight-decay")
    rule = optimizer.statement.name
    circuit = _circuit(home, rule, args.profile, known)
    if args.calibrate and known is None:
        calibrate(optimizer, task, args.calibrate, circuit.shard)
    schedules, scheduler = declare(args.lr_schedule, optimizer, args.steps)
    options = {"--task": args.task, "--seed": args.seed, "--batch": args.batch, "--clip": args.clip}
    options["option of the optimizer"] = str([sorted(hyper.items()) for hyper in optimizer.groups])
    options["--lr, --lr-schedule or --steps"] = " ".join(f"{s.kind} {s.values}" for s in schedules)
    options |= {"--no-decay-on-bias": args.no_decay_on_bias, "--calibrate": args.calibrate, "--rescale": args.rescale}
    options |= {"--epoch-steps": args.epoch_steps, "--max-rounding": args.max_rounding}
    terms = replace(sampling_terms(args, home), epoch_steps=args.epoch_steps, max_rounding=args.max_rounding)
    options["--prove, --beacon or --window"] = f"{terms.sampled} {terms.beacon} {terms.window}"

    def training() -> bytes:
        out = io.BytesIO()
        torch.save(
            {
                "options": options,
                "model": task.model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
            },
            out,
        )
        return out.getvalue()

    def restore(data: bytes) -> None:
        saved = torch.load(io.BytesIO(data), weights_only=True)
        for option, value in options.items():
            if saved["options"][option] != value:
                raise UsageError(f"run {name!r} began with another {option}: give the options that it began with")
        try:
            task.model.load_state_dict(saved["model"])
        except RuntimeError:
            raise UsageError(f"run {name!r} began with another model than --task {args.task} makes now") from None
        optimizer.load_state_dict(saved["optimizer"])
        scheduler.load_state_dict(saved["scheduler"])

    url = args.log or f"sqlite:///{home.path.absolute()}/log.db"
    name = args.run_name or time.strftime("run-%Y%m%d-%H%M%S")
    with open_event_log(url) as log:
        if known is not None:
            recorder = Recorder.resume(optimizer, log, home, circuit, name, restore)
            if args.steps < recorder.step:
                at = recorder.step
                recorder.close()
                raise UsageError(f"--steps: run {name!r} is at step {at} already, got {args.steps}")
            _tell(f"run {name} goes on after step {recorder.step}")
        else:
            recorder = Recorder.start(optimizer, log, home, circuit, name, schedules, training, terms)
        try:
            _tell(
                f"run {recorder.run_id.hex()}  ({name})  {rule}, {optimizer.parameter_count} parameters in "
                f"{recorder.shards} shard(s) of {circuit.shard}, {_undertaken(terms)}log {log.url}"
            )
            _tell(f"optimizer steps: {optimizer.path}")
            try:
                _train(args, task, optimizer, scheduler, recorder, training)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    f"run {name} is at step {recorder.step}; it goes on with the same options and --run-name {name}"
                ) from None
        finally:
            recorder.close()
    return 0


def _undertaken(terms: Any) -> str:
    return f"{terms.sampled} of them drawn by {terms.beacon} and proven, " if terms.sampled else ""


def _train(args: argparse.Namespace, task: Any, optimizer: Any, scheduler: Any, recorder: Any, training: Any) -> None:
    import torch
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    began, first, loss = time.perf_counter(), recorder.step, float("nan")
    with Progress(*columns, console=console, disable=args.json or not console.is_terminal) as progress:
        bar = progress.add_task("", total=args.steps, completed=recorder.step, loss="–")
        while recorder.step < args.steps:
            optimizer.zero_grad()
            value = task.loss(recorder.step + 1)
            if not isinstance(value, torch.Tensor) or value.numel() != 1:
                raise UsageError(f"--task {args.task}: expected its loss to be a tensor of one element")
            if not math.isfinite(float(value.detach())):
                raise UsageError(
                    f"step {recorder.step + 1}: the loss is {float(value.detach())}, so nothing was recorded for it; "
                    "lower the rate or look at the data"
                )
            value.backward()  # type: ignore[no-untyped-call]
            if args.rescale and recorder.epoch_begins:
                optimizer.rescale()
            optimizer.step()
            scheduler.step()
            recorder.record(training)
            loss = float(value.detach())
            done = optimizer.last_step
            progress.update(bar, completed=recorder.step, loss=f"{loss:.4f}")
            if args.json:
                facts = {"step": recorder.step, "loss": loss, "rates": done.rates, "rounding": done.rounding}
                counts = {"saturated": done.saturated, "underflow": done.underflow, "limited": done.limited}
                print(json.dumps(facts | counts), flush=True)
            elif not console.is_terminal and (
                recorder.step % max(1, args.steps // 10) == 0 or recorder.step == args.steps
            ):
                _tell(f"  step {recorder.step}/{args.steps}  loss {loss:.4f}")
    recorder.finish()
    seconds = time.perf_counter() - began
    if args.json:
        facts = {"run_id": recorder.run_id.hex(), "steps": recorder.step, "loss": loss, "seconds": seconds}
        print(json.dumps(facts | {"path": optimizer.path.name, "path_because": optimizer.path.why}))
    else:
        share = recorder.seconds_committing / seconds if seconds else 0.0
        print(
            f"finished {recorder.step - first} steps in {seconds:.1f} s ({share:.0%} of it committing), "
            f"{f'loss {loss:.4f}' if recorder.step > first else 'none was left to take'}\n"
            f"run {recorder.run_id.hex()}"
        )


def main(argv: list[str] | None = None) -> int:
    """Entry point of ``zk-train``."""
    return run_command(parser(), _run, argv)


if __name__ == "__main__":
    sys.exit(main())
