"""Keeps what MXNet compiles whenever it is imported: half of the time that its import takes.

MXNet writes the text of a Python function for each of its 2,500 operators, and Python compiles them. We keep the code
as Python keeps that of modules: in a file beside MXNet's own bytecode, in none where bytecode is not to be written, and
in memory until MXNet is imported. What the file holds of a text is found by the digest of the text, so it cannot be out
of date; a file that is damaged, or of another Python, is passed over and written anew. The texts name the operator by
its address, another in each process: the code that is kept has `_ADDRESS` in its place.
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
    """Compiled texts by their digests; `missed`: there are some that the file lacks."""

    def __init__(self, path: Path) -> None:
        self.path, self.missed = path, False
        self.codes = _read(path)

    def compiled(self, text: str) -> CodeType:
        body, _, call = text.rpartition('return ')  # which it ends with: return _imperative_invoke(94871, ...)
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
    """Give a module of `mxnet`, before it is run, an ``exec`` that takes compiled code from the file."""
    global _kept
    if _kept is None:
        source = Path(module.__spec__.origin).parent.parent / 'operators.py'  # type: ignore[union-attr, arg-type]
        _kept = _Kept(Path(cache_from_source(str(source))).with_suffix('.code'))

    def execute(text: str, _: Any, names: Dict[str, Any]) -> None:
        exec(_kept.compiled(text) if _kept else text, module.__dict__, names)  # as MXNet does

    module.exec = execute  # type: ignore[attr-defined]


def write_code() -> None:
    """Write what was compiled anew, once MXNet is imported, and forget all of it."""
    global _kept
    if _kept is not None and _kept.missed and not sys.dont_write_bytecode:
        from common.errors import UserError
        from common.files import atomic_write

        body = marshal.dumps(_kept.codes)
        try:
            _kept.path.parent.mkdir(exist_ok=True)
            atomic_write(_kept.path, lambda file: file.write(MAGIC_NUMBER + _digest(body) + body))
        except (OSError, UserError):
            pass  # no space, or an installation of somebody else's: it is compiled the next time, too
    _kept = None
