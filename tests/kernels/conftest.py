"""Triton reads this when it is imported; whatever is tested in machine code runs in processes of its own."""

import os

os.environ["TRITON_INTERPRET"] = "1"
