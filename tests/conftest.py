"""Fixtures for every test package."""

from __future__ import annotations

import os

# Tests run side by side on all cores, and so do their children. Threads of OpenMP that wait for each other spin: with
# two to a process, tests that train took ten times as long.
for _library in ("OMP", "OPENBLAS"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

# Triton reads this when it is imported; whatever is tested in machine code runs in processes of its own.
os.environ["TRITON_INTERPRET"] = "1"

pytest_plugins = ["tests.support.circuits", "tests.support.broker"]
