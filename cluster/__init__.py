"""The driver's side of Ray. Ray is imported here first, because of what it must find in the environment then."""

import os
import sys

if "ray" not in sys.modules:
    # A driver whose raylet is gone is ended by Ray with code 1 and without a word, in ray.shutdown(), if its parent is
    # PID 1, as in a container or after the shell that started it: Ray then takes it for a worker that lost its raylet.
    # With a PID here Ray asks about that one instead: the driver's own. Workers and agents get theirs from the raylet.
    os.environ["RAY_RAYLET_PID"] = str(os.getpid())
    import ray  # noqa: F401

    del os.environ["RAY_RAYLET_PID"]
