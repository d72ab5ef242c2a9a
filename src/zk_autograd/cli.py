"""What every command shares: how errors and interrupts end, and which exit code they give."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

from zk_autograd.errors import ZkAutogradError

EXIT_ERROR = 2


def run_command(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int], argv: list[str] | None = None
) -> int:
    """Parses, runs, and turns our own errors into one line on stderr and exit code 2; SIGTERM ends like Ctrl-C."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, stop)
    try:
        return run(args)
    except ZkAutogradError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print(f"{parser.prog}: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
