"""Checks the regular expressions of manifests; it searches nothing."""

from __future__ import annotations

import re


def checked_pattern(pattern: str | None, *, groups: int) -> str | None:
    """`pattern` itself. Raises ValueError if it does not compile or has fewer than `groups` groups."""
    if pattern is None:
        return None
    try:
        compiled = re.compile(pattern, re.MULTILINE)
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from error
    if compiled.groups < groups:
        raise ValueError("needs a group around the number")
    return pattern
