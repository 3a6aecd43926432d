"""Cache the code that MXNet compiles whenever it is imported, which takes half of the time of its import.

MXNet writes the source of a Python function for each of its 2,500 operators, and Python compiles it. We keep the code
as Python keeps that of modules: in a file beside MXNet's own bytecode, unless bytecode is not to be written, and in
memory until MXNet is imported. Code is found by the digest of its source, so it cannot be out of date; a file that is
damaged, or of another Python, is ignored and written anew. Each source contains the address of its operator, which
differs between processes; in the code that is kept, `_ADDRESS` stands for it.
"""

import marshal
import sys
from hashlib import blake2b
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, Dict, Optional

__all__ = ['keep_code', 'write_code']


_ADDRESS = 'address of the operator'


class _Kept:
    """Compiled code by the digest of its source; `missed` says whether the file lacks some of it."""

    def __init__(self, path: Path) -> None:
        self.path, self.missed = path, False
        self.codes = _read(path)

    def compiled(self, text: str) -> CodeType:
        body, _, call = text.rpartition('return ')  # it ends with: return _imperative_invoke(94871, ...)
        name, _, arguments = call.partition('(')
        address, _, others = arguments.partition(',')
        if not address.isdigit():
            return compile(text, '<string>', 'exec')
        text = f'{body}return {name}({_ADDRESS!r},{others}'
        key = _digest(text.encode())
        code = self.codes.get(key)
        if code is None:
            code = self.codes[key] = compile(text, '<string>', 'exec')
            self.missed = True
        return _with_address(code, int(address))


def _with_address(code: CodeType, address: int) -> CodeType:
    constants = (
        _with_address(constant, address)
        if isinstance(constant, CodeType)
        else address
        if constant == _ADDRESS
        else constant
        for constant in code.co_consts
    )
    return code.replace(co_consts=tuple(constants))


_kept: Optional[_Kept] = None


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).digest()


def _read(path: Path) -> Dict[bytes, CodeType]:
    try:
        content = path.read_bytes()
    except OSError:
        return {}
    start = MAGIC_NUMBER + content[len(MAGIC_NUMBER) :][:16]
    body = content[len(start) :]
    # Damaged code would crash the interpreter.
    return marshal.loads(body) if content.startswith(start) and _digest(body) == start[-16:] else {}


def keep_code(module: ModuleType) -> None:
    """Give a module of `mxnet` that is about to run an ``exec`` that takes compiled code from the file."""
    global _kept
    if _kept is None:
        source = Path(module.__spec__.origin).parent.parent / 'operators.py'  # type: ignore[union-attr, arg-type]
        _kept = _Kept(Path(cache_from_source(str(source))).with_suffix('.code'))

    def execute(text: str, _: Any, names: Dict[str, Any]) -> None:
        exec(_kept.compiled(text) if _kept else text, module.__dict__, names)  # as MXNet does

    module.exec = execute  # type: ignore[attr-defined]


def write_code() -> None:
    """Write the file if it lacked code, and forget all code; to be called once MXNet is imported."""
    global _kept
    if _kept is not None and _kept.missed and not sys.dont_write_bytecode:
        from common.errors import UserError
        from common.files import atomic_write

        body = marshal.dumps(_kept.codes)
        try:
            _kept.path.parent.mkdir(exist_ok=True)
            atomic_write(_kept.path, lambda file: file.write(MAGIC_NUMBER + _digest(body) + body))
        except (OSError, UserError):
            pass  # no space, or an installation that is not ours to write to: the next import compiles again
    _kept = None
