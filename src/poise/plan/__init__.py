"""What will be asked, of whom, when: pure and seeded.

`poise.plan(study)` is also one of the library's verbs: a package and a function of one name, so the package is
callable and passes the call on.
"""

from __future__ import annotations

import sys
import types
from typing import Any


class _CallableRoom(types.ModuleType):
    def __call__(self, study: Any, *, allow_code: bool = False) -> Any:
        """Expand a study without running anything; see `poise.api.plan`."""
        from importlib import import_module

        return import_module("poise.api").plan(study, allow_code=allow_code)


sys.modules[__name__].__class__ = _CallableRoom
