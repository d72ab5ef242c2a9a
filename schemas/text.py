"""Text from outside: which characters a field may hold, and how to quote a hostile value in a message.

The list of characters is fixed here, where ``str.isprintable`` follows the Unicode tables of the Python at hand: two
auditors must not disagree on whether an event is well-formed.
"""

from __future__ import annotations

import re

# Controls, soft hyphen, zero-width and bidirectional marks, line separators, surrogates, byte-order mark, tags.
_HIDDEN = (
    "\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff0-\ufffb\ufffe\uffff"
    "\U000e0000-\U000e0fff"
)
UNPRINTABLE = re.compile(f"[{_HIDDEN}]")
"""Finds a character that no text field may hold."""


def brief(value: object) -> str:
    """``value`` in a few ASCII characters, however large or hostile it is."""
    if isinstance(value, (bytes, str)):
        unit = "bytes" if isinstance(value, bytes) else "characters"
        return f"{value[:24]!a}" + (f"... ({len(value)} {unit})" if len(value) > 24 else "")
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {len(value)} items"
    if type(value) is int and value.bit_length() > 64:
        return f"an int of {value.bit_length()} bits"
    if type(value) in (int, float, bool):
        return f"{value!r} ({type(value).__name__})"
    return f"a {type(value).__name__}"


def one_line(text: str, limit: int) -> str:
    """``text`` made fit for a field of 1 to ``limit`` printable characters, such as DeadLetter.reason (1024).

    It is cut at ``limit``; each character that may not be there becomes a space, and an empty text a dash.
    """
    return UNPRINTABLE.sub(" ", text[:limit]) or "-"
