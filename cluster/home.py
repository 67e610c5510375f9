"""Where a campaign lies on its driver's machine, with a sign by which nodes tell whether they see that very place."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from actors.energy import Home
from profiler.store.layout import SessionFolder
from profiler.store.ledger import session_identity
from profiler.workloads import ModelSpec, manifest_roots

_SIGN = ".driver-"


@contextmanager
def signed_home(folder: SessionFolder, models: Sequence[ModelSpec]) -> Iterator[Home]:
    """The session and the folders of `models` (manifests and own checkouts). First-party ones travel with the code."""
    own = manifest_roots()[0]
    folders = {str(model.folder): model.folder.parent == own for model in models}
    folders |= {str(model.own_checkout.path): False for model in models if model.own_checkout is not None}
    for old in folder.root.glob(f"{_SIGN}*"):
        old.unlink()
    sign = folder.root / f"{_SIGN}{secrets.token_hex(8)}"
    sign.touch()
    try:
        yield Home(str(folder.root), str(sign), session_identity(folder.ledger), dict(sorted(folders.items())))
    finally:
        sign.unlink(missing_ok=True)
