"""``profiler resume``: finishes an interrupted campaign. The driver does the work."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from profiler import _own
from profiler.cli import campaign_run


def execute(options: Namespace) -> int:
    """Goes on with the session; runs that have a final row are not repeated. Exit code as of ``run``."""
    session = Path(options.session)
    driver = _own.driver()
    return campaign_run.conduct(
        lambda observer: driver.resume_campaign(
            session,
            address=options.address,
            observer=observer,
            retry_failed=options.retry_failed,
            allow_changed=options.allow_changed,
            governor_optional=options.governor_optional,
            allow_uncontained=options.allow_uncontained,
            require=options.require,
        ),
        as_json=options.json,
    )
