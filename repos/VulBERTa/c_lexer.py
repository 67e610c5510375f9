"""Splits C source into lexical tokens with one regular expression; it does not preprocess and does not parse.

Comments, line breaks and other space vanish. What is no token of C (a stray byte, an open quote) is a token of one
character, so that every input is accepted.
"""

import re

_TOKEN = re.compile(
    r"""
      (?P<space>   \s+ | \\\r?\n | //(?:\\\r?\n|[^\n])* | /\*.*?(?:\*/|\Z) )
    | (?P<text>    (?:u8|[uUL])? (?: "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*' ) )
    | (?P<number>  \.?[0-9](?:[eEpP][+-]|[0-9A-Za-z_.])* )
    | (?P<name>    [A-Za-z_$][A-Za-z0-9_$]* )
    | (?P<sign>    <<=|>>=|\.\.\.|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|\#\#|. )
    """,
    re.VERBOSE | re.DOTALL,
)


def lex(code: str) -> list[str]:
    """The tokens of `code` in order."""
    return [match.group() for match in _TOKEN.finditer(code) if match.lastgroup != "space"]
