"""facts.py: prints as one JSON line what a trainer finds about itself: descriptors, session, limits, user."""

import json
import os
import resource
from pathlib import Path


def status_field(name: str) -> str:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    links = sorted(Path("/proc/self/fd").iterdir(), key=lambda link: int(link.name))
    facts = {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "session_leader": os.getsid(0) == os.getpid(),
        "descriptors": [int(link.name) for link in links if link.exists()],
        "stdin": str(Path("/proc/self/fd/0").readlink()),
        "cwd": str(Path.cwd()),
        "uid": os.getuid(),
        "gid": os.getgid(),
        "capabilities": status_field("CapEff"),
        "core_limit": resource.getrlimit(resource.RLIMIT_CORE)[0],
        "environment": dict(os.environ),
        "processes": sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()),
        "shm": [entry.name for entry in Path("/dev/shm").iterdir()],
    }
    print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
