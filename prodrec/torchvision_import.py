"""torchvision and timm are imported without torch's compiler, of which a process that does not compile has no use.

Three of their modules name it when they are imported, and with it come dynamo, inductor, triton and sympy: 1.1 s of CPU at the
start of each process that scores. Two say of functions that they are not to be compiled, the third asks for one that it may call
later. While one of the three is imported, stand-ins hold the compiler's names: those functions load it when they are called, and
whatever else is asked of the stand-ins loads it at once. Measured: docs/log.md, 2026-11-28.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

_WHO = ("torchvision.ops.roi_align", "torchvision.tv_tensors", "timm.models.naflexvit")
_DYNAMO, _PARTS = "torch._dynamo", "torch._dynamo.utils"


def without_compiler() -> None:
    """From now on; of no effect on what is imported already."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds those modules as they would be found, and nothing else."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in _WHO or _DYNAMO in sys.modules:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        with _stand_ins():
            super().exec_module(module)


@contextmanager
def _stand_ins() -> Iterator[None]:
    held = {_DYNAMO: ModuleType(_DYNAMO), _PARTS: ModuleType(_PARTS)}

    def give_up() -> None:
        for name, module in held.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]

    def real(module: str, name: str) -> Any:
        if name.startswith("__"):  # the import system asks whether it is a package
            raise AttributeError(name)
        give_up()
        return getattr(import_module(module), name)

    # What a module has not, its `__getattr__` is asked for: PEP 562.
    vars(held[_DYNAMO]).update(__getattr__=lambda name: real(_DYNAMO, name), disable=_not_compiled)
    vars(held[_PARTS]).update(__getattr__=lambda name: real(_PARTS, name), is_compile_supported=lambda device: real(_PARTS, "is_compile_supported")(device))
    sys.modules |= held
    try:
        yield
    finally:
        give_up()


def _not_compiled(function: Callable[..., Any], recursive: bool = True, *, reason: str | None = None) -> Callable[..., Any]:
    """`torch._dynamo.disable` as torch itself uses it: the compiler is loaded when the function is first called."""
    return import_module("torch._compile")._disable_dynamo(function, recursive)
