"""Load parts of networks from Python files outside the project that register them (:mod:`model.registry`).

A file only runs if it is named, on a command line or in Python. What is recorded of it with parameters and
checkpoints - its path, its sha256, what it registers - says which file to name; it never runs because of the record.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
import traceback
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Sequence, Tuple, Union

from environment import UserError
from model.registry import ACTIVATIONS, ATTENTIONS, BACKBONES, Plugin, registering

__all__ = ['RECORDS', 'blamed', 'check_recorded', 'load_plugin', 'load_plugins', 'names_of', 'recorded']

logger = logging.getLogger(__name__)

#: What is recorded of the plugins of a network, as a schema (:mod:`common.schema`).
RECORDS = [{'path': str, 'sha256': str, 'names': [str], ...: object}]

_TABLES = (ATTENTIONS, ACTIVATIONS, BACKBONES)
_loaded: Dict[str, Plugin] = {}  # by sha256


@contextmanager
def blamed(plugin: Plugin) -> Iterator[None]:
    """Turn a fault in a plugin's code into a ``UserError`` that names its file and line.

    A ``ValueError`` passes: it is how a unit refuses an option.
    """
    try:
        yield
    except (UserError, ValueError):
        raise
    except Exception as error:
        if isinstance(error, TypeError) or _line(plugin, error):
            raise _fault(plugin, error) from error
        raise


def _line(plugin: Plugin, error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename == plugin.path:
        return f', line {error.lineno}'
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == plugin.path]
    return f', line {frames[-1].lineno}' if frames else ''


def _fault(plugin: Plugin, error: BaseException) -> UserError:
    reason = ' '.join(str(error.msg if isinstance(error, SyntaxError) else error).split())
    told = f'plugin {plugin.path}{_line(plugin, error)}'
    if type(error) is ValueError:  # a sentence that says what to do
        return UserError(f'{told}: {reason}')
    return UserError(f'{told}: {type(error).__name__}: {reason}; fix the file')


def load_plugin(path: Union[str, os.PathLike]) -> Plugin:
    """Run the Python file ``path``, which registers parts of networks.

    A file that was loaded before is not loaded again, unless it has changed; then it replaces its earlier state.

    Raises:
        UserError: it cannot be read, fails, or registers nothing; nothing of it stays registered then.
    """
    path = os.fspath(path)
    try:
        with open(path, 'rb') as file:
            content = file.read()
    except OSError as error:
        raise UserError(
            f'plugin {path} cannot be read ({error.strerror}); give a Python file that registers a unit'
        ) from error
    plugin = Plugin(path, hashlib.sha256(content).hexdigest())
    if plugin.sha256 in _loaded:
        return _loaded[plugin.sha256]
    module = ModuleType(f'attention_plugin_{plugin.sha256[:12]}')
    module.__file__ = path
    sys.modules[module.__name__] = module
    try:
        with registering(plugin):
            for table in _TABLES:  # an earlier state of the file gives way
                for name in [name for name, row in table.items() if row.plugin and row.plugin.path == path]:
                    del table[name]
            exec(compile(content, path, 'exec'), module.__dict__)
            if not names_of(plugin):
                raise ValueError(
                    'it registers nothing: call register_attention, register_activation or register_backbone of model'
                )
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        raise _fault(plugin, error) from error
    for earlier in [sha256 for sha256, one in _loaded.items() if one.path == path]:
        del _loaded[earlier]
    _loaded[plugin.sha256] = plugin
    return plugin


def load_plugins(paths: Sequence[Union[str, os.PathLike]]) -> List[Plugin]:
    """Load each of the files, see :func:`load_plugin`."""
    return [load_plugin(path) for path in paths]


def names_of(plugin: Plugin) -> List[str]:
    """Return what a plugin has registered."""
    return [name for table in _TABLES for name, row in table.items() if row.plugin == plugin]


def recorded(rows: Iterable[Tuple[str, Any]]) -> List[Dict[str, Any]]:
    """Return what to record of the plugins that some registered ``(name, row)`` came from: `RECORDS`."""
    plugins: Dict[Plugin, List[str]] = {}
    for name, row in rows:
        if row.plugin is not None:
            plugins.setdefault(row.plugin, []).append(name)
    return [{'path': plugin.path, 'sha256': plugin.sha256, 'names': names} for plugin, names in plugins.items()]


def check_recorded(records: Sequence[Mapping[str, Any]], origin: str, exactly: bool = False) -> None:
    """Compare the plugins that ``origin`` records with those that are loaded.

    Raises ``UserError`` if one is missing or, with ``exactly``, was another file. Otherwise the log tells of another
    file.
    """
    for record in records:
        path, names = record['path'], ', '.join(record['names'])
        rows = [table[name] for name in record['names'] for table in _TABLES if name in table]
        loaded = {row.plugin for row in rows if row.plugin is not None}
        if len(rows) < len(record['names']) or not loaded:
            raise UserError(
                f'{origin} has {names} from the plugin {path} of sha256 {record["sha256"][:12]}..., which is not '
                f'loaded; give --plugin {path}, or in Python call model.load_plugin'
            )
        other = next((plugin for plugin in loaded if plugin.sha256 != record['sha256']), None)
        if other is None:
            continue
        changed = (
            f'{origin} has {names} from the plugin {path} of sha256 {record["sha256"][:12]}..., and {other.path} has '
            f'{other.sha256[:12]}...'
        )
        if exactly:
            raise UserError(f'{changed}; give the file as it was, or start a new run with another --save-dir')
        logger.warning('%s: the network may compute something else now', changed)
