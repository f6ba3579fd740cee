"""Importing Gradio in two thirds of its time, because the page is to be up within five seconds.

At every import Gradio parses the source of each of its components to write stub files for editors beside it.
An installed Gradio has them already; ``import_gradio`` leaves that step out.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from semibody.types import MissingPartError

_MODULE, _STEP = "gradio.component_meta", "create_or_modify_pyi"


class _WithoutStubs(importlib.abc.MetaPathFinder):
    """Finds the one module as Python does, and replaces the one function in it."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> importlib.machinery.ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(fullname, path) if fullname == _MODULE else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def without(module: ModuleType) -> None:
            execute(module)
            if hasattr(module, _STEP):
                setattr(module, _STEP, lambda *arguments: None)  # noqa: ARG005

        spec.loader.exec_module = without  # type: ignore[method-assign]
        return spec


def import_gradio() -> Any:
    """The module ``gradio``. Raises MissingPartError where it is not installed."""
    finder = _WithoutStubs()
    sys.meta_path.insert(0, finder)
    try:
        import gradio
    except ModuleNotFoundError:
        raise MissingPartError("the page needs gradio; run: pip install 'semibody[web]'") from None
    finally:
        sys.meta_path.remove(finder)
    return gradio
