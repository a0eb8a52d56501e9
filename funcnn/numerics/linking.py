"""How Numba compiles kernels, and the functions that they are made of: to be linked, not to be run.

Numba would optimise each function, write its machine code, and more to call it from Python. Here a
whole kernel is optimised, and becomes machine code, once: in `translation`. That takes half the time.
"""

from __future__ import annotations

from typing import Any

from numba.core.codegen import AOTCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.typed_passes import NativeLowering


class _Kernel(AOTCodeLibrary):  # type: ignore[misc]  # Numba has no types
    def _finalize_final_module(self) -> None:
        self._finalized = True  # and not given to Numba's engine


class _Part(_Kernel):
    def _optimize_final_module(self) -> None:
        pass


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):  # type: ignore[misc]
    _name = "linked_lowering"

    def run_pass(self, state: Any) -> bool:
        kind = state.pipeline.library
        state.library = library = kind(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        library.finalize()
        name = list[Any]().append  # callers know it by another one each time, made in C
        state.targetctx.insert_user_function(name, state.cr.fndesc, [library])
        state.cr = state.cr._replace(cfunc=name)
        return True


class Kernels(CompilerBase):  # type: ignore[misc]
    """For ``numba.njit(pipeline_class=...)``; the function cannot be called from Python."""

    library: type[_Kernel] = _Kernel

    def define_pipelines(self) -> list[Any]:
        """Numba's own passes, but for the last one."""
        usual = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes = PassManager("linked")
        for one, words in usual.passes:
            passes.add_pass(_Lowering if one is NativeLowering else one, words)
        passes.finalize()
        return [passes]


class Parts(Kernels):
    """The same for what kernels call."""

    library = _Part
