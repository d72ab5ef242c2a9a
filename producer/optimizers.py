"""The optimizers of the command line, from the statements there are: their names, their options, their making."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import Any

from zk_autograd.errors import UsageError
from zk_autograd.proofs.base import PROFILES
from zk_autograd.statement import STATEMENTS

_RATES = {"sgd": 0.05, "adafactor": 0.01}


def choices() -> list[str]:
    """What ``--optimizer`` takes."""
    return sorted(_options())


def _options() -> dict[str, set[str]]:
    """By choice of ``--optimizer``, the options that it has: what its statements declare, and what leads to them."""
    found: dict[str, set[str]] = {}
    for st in STATEMENTS.values():
        pairs = {"beta1": "betas", "beta2": "betas"} if st.optimizer else {}
        names = {pairs.get(name, name) for name in st.defaults} | set(re.findall(r"(\w+)=", st.optimizer))
        found[st.choice] = found.get(st.choice, set()) | names
    return found


def add_hyper(p: argparse.ArgumentParser) -> None:
    """Adds options for the hyper-parameters of statements that have no class, but for names that are options already.

    Those of the others have help of their own.
    """
    for st in STATEMENTS.values():
        for name, usual in st.defaults.items() if not st.optimizer else ():
            if name not in {action.dest for action in p._actions}:
                p.add_argument(_flag(name), type=float, help=f"of {st.name} (default: {usual:g})")


def make_optimizer(args: argparse.Namespace, parameters: Any) -> Any:
    """The optimizer that the options describe, over a model's parameters.

    Raises:
        UsageError: an option is none of this optimizer, or its statement names a class that there is not.
        FormatError: no format fits.
    """
    options = _options()
    given: dict[str, Any] = {"lr": args.lr if args.lr is not None else _RATES.get(args.optimizer, 1e-3)}
    given |= {"clip": args.clip, "logrows": PROFILES[args.profile].logrows}
    for name in sorted(set().union(*options.values())):
        value = getattr(args, name, None)
        if value is None:
            continue
        if name not in options[args.optimizer]:
            raise UsageError(f"{_flag(name)} is no option of --optimizer {args.optimizer}")
        given[name] = tuple(value) if isinstance(value, list) else value
    return _maker(args.optimizer)(parameters, **given)


def _maker(choice: str) -> Callable[..., Any]:
    from zk_autograd import optim

    st = next(st for st in STATEMENTS.values() if st.choice == choice)
    kind = st.optimizer.partition("(")[0]
    if not kind:
        return lambda parameters, **given: optim.StatementOptimizer(parameters, st.name, **given)
    made: Callable[..., Any] | None = getattr(optim, kind, None)
    if made is None:
        raise UsageError(f"the statement {st.name} says that {kind} makes it, and zk_autograd.optim has no {kind}")
    return made


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
