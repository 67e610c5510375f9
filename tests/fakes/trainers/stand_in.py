"""stand_in.py FACTS MODEL --flag value ...: stands in for the real trainer of MODEL, and says what that one would say.

It trains nothing and takes half a second; as a background it takes half a minute: no pair here lasts as long. FACTS is
a JSON file of tests/verdicts/stand_ins.py. Standard library only, so that it starts at once.
"""

import json
import os
import sys
import time
from pathlib import Path

FOREGROUND_S, BACKGROUND_S = 0.5, 30.0
KINDS = {"int": int, "float": float, "str": str}


def main() -> None:
    facts = json.loads(Path(sys.argv[1]).read_text())[sys.argv[2]]
    values = effective(facts["flags"], sys.argv[3:])
    events = Path(os.environ["PROFILER_EVENTS"])
    epochs = values.get(facts["epochs"], 1)
    tell(events, event="config", hyperparameters=values)
    tell(events, event="ready")
    print(f"stands in for {sys.argv[2]}", flush=True)
    time.sleep(BACKGROUND_S if events.parent.name == "background" else FOREGROUND_S)
    tell(events, event="done", metrics=facts["metrics"], epochs=epochs)


def effective(flags: dict[str, list[str]], words: list[str]) -> dict[str, object]:
    """The values of the command line by the names and types of the manifest."""
    values: dict[str, object] = {}
    for flag, text in zip(words[::2], words[1::2], strict=True):
        name, kind = flags[flag]
        values[name] = KINDS[kind](text)
    return values


def tell(path: Path, **event: object) -> None:
    with path.open("a") as stream:
        stream.write(json.dumps({**event, "t_ns": time.monotonic_ns()}) + "\n")


if __name__ == "__main__":
    main()
