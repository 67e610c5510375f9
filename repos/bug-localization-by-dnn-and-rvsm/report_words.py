"""Turns text and source code into words that can be compared; standard library only."""

import re

WORD = re.compile(r"[A-Za-z]+")
HUMP = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
LONGEST_WORD = 30
_STOP_TEXT = """
    a about above after again all also am an and any are as at be because been before being below between both but
    by can cannot could did do does doing don down during each few for from further had has have having he her
    here him his how i if in into is it its itself just let like may me might more most must my no nor not now of
    off on once only or other our out over own same she should so some such than that the their them then there
    these they this those through to too under until up use used using very was we were what when where which
    while who whom why will with would you your abstract assert bool boolean break byte case catch char class
    const continue def default del double elif else enum except extends final finally float func function goto
    implements import include instanceof int interface lambda long namespace native new none null package pass
    private protected public raise return self short static struct super switch synchronized template throw throws
    transient true false try type typedef union unsigned var void volatile yield
"""
STOP_WORDS = frozenset(_STOP_TEXT.split())
ENDINGS = ("ations", "ation", "ments", "ment", "ings", "ing", "ness", "ies", "ied", "ers", "ed", "es", "er", "ly", "s")


def words(text: str) -> list[str]:
    """The stems of the words of a text or a program; compound names give their parts and themselves."""
    found: list[str] = []
    for word in WORD.findall(text):
        parts = HUMP.findall(word)
        for part in [word, *parts] if len(parts) > 1 else parts:
            lower = part.lower()
            if 2 < len(lower) <= LONGEST_WORD and lower not in STOP_WORDS:
                found.append(stem(lower))
    return found


def stem(word: str) -> str:
    """The word without its first matching ending and without a last e, if three letters or more stay each time.

    A light stemmer, not Porter's: "file", "files" and "filed" meet in "fil".
    """
    for ending in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            word = word[: -len(ending)]
            break
    return word[:-1] if word.endswith("e") and len(word) > 3 else word
