"""Generates small C functions, half of them with one of four faults; it reads nothing and compiles nothing.

The faults: a bound that is off by one or not checked, a copy without a limit, memory used without asking whether it
was given, memory used after it was released. A faulty function differs from a sound one in the guard alone; what
stands around it is drawn alike for both. A small part of the labels is wrong on purpose, as in real sets, so no
honest score exceeds 1 - LABEL_NOISE by much.
"""

import random
from collections.abc import Callable, Sequence

LABEL_NOISE = 0.05

_VERBS = ("parse", "read", "update", "copy", "handle", "init", "store", "load", "decode", "check", "send", "merge")
_NOUNS = ("packet", "header", "frame", "config", "record", "entry", "table", "stream", "block", "request", "field")
_INTEGERS = ("count", "total", "flags", "state", "offset", "limit", "mode", "rc", "sum", "width", "depth", "status")
_SIZES = ("BUF_SIZE", "MAX_LEN", "NAME_MAX", "64", "128", "256")
_TYPES = ("char", "int", "uint8_t", "struct node")

Lines = list[str]


def generate(functions: int, seed: int, fillers: tuple[int, int] = (1, 8), integers: int = 4) -> list[tuple[str, int]]:
    """`functions` pairs of C text and label (1 = faulty).

    `fillers` bounds the statements on each side of the spot; `integers` is the number of local variables.
    """
    draw = random.Random(seed)
    made = []
    for number in range(functions):
        faulty = draw.random() < 0.5
        code = _function(draw, _FAMILIES[number % len(_FAMILIES)], faulty, fillers, integers)
        made.append((code, int(faulty != (draw.random() < LABEL_NOISE))))
    return made


def _function(
    draw: random.Random,
    family: Callable[[random.Random, bool], Lines],
    faulty: bool,
    fillers: tuple[int, int],
    locals_: int,
) -> str:
    integers = draw.sample(_INTEGERS, locals_)
    name = f"{draw.choice(_VERBS)}_{draw.choice(_NOUNS)}"
    head = f"static int {name}(struct context *ctx, const char *src, int idx, size_t len)"
    body = [f"int {word} = {draw.randrange(10)};" for word in integers]
    body += [_filler(draw, integers) for _ in range(draw.randint(*fillers))]
    body += family(draw, faulty)
    body += [_filler(draw, integers) for _ in range(draw.randint(*fillers))]
    body.append(f"return {draw.choice(integers)};")
    return head + "\n{\n" + "".join(f"    {line}\n" for line in body) + "}\n"


def _filler(draw: random.Random, integers: Sequence[str]) -> str:
    a, b = draw.sample(list(integers), 2)
    noun, value = draw.choice(_NOUNS), draw.randrange(1, 32)
    return draw.choice(
        (
            f"{a} = {b} + {value};",
            f"{a} += ctx->{noun};",
            f"ctx->{noun} = {a};",
            f"if ({a} > {value}) {b} = {value};",
            f"if ({a} >= ctx->{noun}) {b}++;",
            f"for ({a} = 0; {a} < {value}; {a}++) {b} += {a};",
            f"while ({a} < {value}) {a}++;",
            f'log_debug("{noun} %d", {a});',
            f"{a} = compute_{noun}(ctx, {b});",
            f"if (ctx->{noun} == NULL) {a} = -1;",
        )
    )


def _bounds(draw: random.Random, faulty: bool) -> Lines:
    size, kind = draw.choice(_SIZES), draw.choice(_TYPES[1:3])
    array = f"{draw.choice(_NOUNS)}_buf"
    sound = f"if (idx >= {size}) return -1;"
    guard = draw.choice((f"if (idx > {size}) return -1;", "")) if faulty else sound
    use = draw.choice((f"{array}[idx] = len;", f"{array}[idx]++;"))
    return [f"{kind} {array}[{size}];", *([guard] if guard else []), use]


def _copy(draw: random.Random, faulty: bool) -> Lines:
    size = draw.choice(_SIZES)
    array = f"{draw.choice(_NOUNS)}_name"
    sound, unsound = draw.choice(
        (
            (f"strncpy({array}, src, sizeof({array}));", f"strcpy({array}, src);"),
            (f"strncat({array}, src, sizeof({array}));", f"strcat({array}, src);"),
            (f"memcpy({array}, src, sizeof({array}));", f"memcpy({array}, src, len);"),
        )
    )
    return [f"char {array}[{size}];", unsound if faulty else sound]


def _allocation(draw: random.Random, faulty: bool) -> Lines:
    kind = draw.choice(_TYPES)
    pointer = f"{draw.choice(_NOUNS)}_ptr"
    call = draw.choice((f"malloc(len * sizeof({kind}))", f"calloc(len, sizeof({kind}))"))
    guard = draw.choice((f"if ({pointer} == NULL) return -1;", f"if (!{pointer}) return -1;"))
    use = draw.choice((f"memset({pointer}, 0, len);", f"consume(ctx, {pointer});"))
    return [f"{kind} *{pointer} = {call};", *([] if faulty else [guard]), use]


def _release(draw: random.Random, faulty: bool) -> Lines:
    noun = draw.choice(_NOUNS)
    use = draw.choice((f"consume(ctx, ctx->{noun});", f"ctx->{noun}->refs = len;"))
    release = f"free(ctx->{noun});"
    clear = f"ctx->{noun} = NULL;"
    return [release, use] if faulty else draw.choice(([use, release], [use, release, clear]))


_FAMILIES = (_bounds, _copy, _allocation, _release)
