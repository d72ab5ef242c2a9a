"""What every command shares: how errors and interrupts end, and which exit code they give."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from zk_autograd.errors import ZkAutogradError
from zk_autograd.home import default_home

EXIT_ERROR = 2
"""Never 1: that is an auditor's "violated"."""


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Wraps descriptions, and leaves examples (what has several lines) as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)


def command_parser(prog: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """A command's parser: what it does, then its options, then examples and exit codes."""
    return argparse.ArgumentParser(prog=prog, description=description, epilog=epilog, formatter_class=HelpFormatter)


def add_home(p: argparse.ArgumentParser, holds: str = "keys and circuits") -> None:
    """``--home``."""
    p.add_argument(
        "--home", type=Path, default=default_home(), help=f"folder of {holds} (default: $ZK_HOME or ~/.zk-autograd)"
    )


def run_command(
    parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int], argv: list[str] | None = None
) -> int:
    """Parses, runs, and turns errors into one line on stderr and exit code 2; SIGTERM ends like Ctrl-C.

    Of an error that nobody foresaw, place and type are printed, not the text, which may hold a secret; with
    ``ZK_DEBUG`` set in the environment, all of it.
    """

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter must not change the verdict
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, stop)
    try:
        return run(args)
    except ZkAutogradError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt as interrupt:
        print(f"{parser.prog}: stopped{''.join(f'; {note}' for note in interrupt.args)}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"{parser.prog}: {where}{error.strerror or type(error).__name__}", file=sys.stderr)
        return EXIT_ERROR
    except Exception as error:
        if os.environ.get("ZK_DEBUG"):
            traceback.print_exc()
        last = traceback.extract_tb(error.__traceback__)[-1]
        print(
            f"{parser.prog}: unexpected {type(error).__name__} in {os.path.basename(last.filename)}:{last.lineno}, "
            "please report it (ZK_DEBUG=1 prints more, perhaps secrets)",
            file=sys.stderr,
        )
        return EXIT_ERROR
