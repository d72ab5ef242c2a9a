"""Fixtures for every test package."""

from __future__ import annotations

pytest_plugins = ["tests.support.circuits", "tests.support.broker"]
