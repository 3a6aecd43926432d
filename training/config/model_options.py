"""Arguments of get_model: --option KEY=VALUE for those without a flag of their own, and checks of the others."""

import argparse
import re
from typing import Any, Dict, List, Mapping, Optional, Sequence

from environment import UsageError
from training.config.fields import flag
from training.config.settings import read_yaml

__all__ = [
    'act_type',
    'add_option_flag',
    'check_reduction',
    'option_flag',
    'plugin_flag',
    'with_options',
    'with_plugins',
]

# The comma before a key; those of a list, as in reduction=[8,16], stay.
_BETWEEN = re.compile(r',(?=\s*[A-Za-z_]\w*=)')


def _pairs(text: str) -> Dict[str, str]:
    """Raise `ValueError` with the part that is not KEY=VALUE."""
    pairs = {}
    for part in _BETWEEN.split(text) if text else ():
        key, _, value = part.strip().partition('=')
        if not key.isidentifier() or not value:
            raise ValueError(part.strip())
        pairs[key] = value
    return pairs


class _Join(argparse.Action):
    """Keep the pairs of all uses as one text, the last of each key, so that repeating one changes nothing."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str,
        option_string: Optional[str] = None,
    ) -> None:
        try:
            pairs = {**_pairs(getattr(namespace, self.dest)), **_pairs(values)}
        except ValueError as error:
            raise argparse.ArgumentError(
                self, f'{str(error)!r} is not allowed; give KEY=VALUE, such as adapter=bottleneck'
            ) from None
        setattr(namespace, self.dest, ','.join(f'{key}={value}' for key, value in pairs.items()))


class _Gather(argparse.Action):
    """Keep the files of all uses as a list, each once; a list in a YAML file comes separated by commas."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str,
        option_string: Optional[str] = None,
    ) -> None:
        files = [*(getattr(namespace, self.dest) or []), *values.split(',')]
        setattr(namespace, self.dest, list(dict.fromkeys(files)))


_PLUGIN = {
    'action': _Gather,
    'metavar': 'FILE',
    'help': 'Python file of your own that registers units or backbones (model.register_attention and its like); it is '
    'run; several with commas, or again',
}
_OPTION = {
    'action': _Join,
    'default': '',
    'metavar': 'KEY=VALUE',
    'help': 'argument of get_model that no flag names, such as mask_additions=true; several with commas, or again',
}


def plugin_flag() -> Any:
    """Declare the field of --plugin."""
    return flag('--plugin', **_PLUGIN)


def option_flag() -> Any:
    """Declare the field of --option."""
    return flag('--option', **_OPTION)


def add_option_flag(group: Any) -> None:
    """Add --option and --plugin to a group of a parser's flags."""
    group.add_argument('--plugin', **_PLUGIN)
    group.add_argument('--option', **_OPTION)


def act_type(text: str) -> str:
    """Return our name of the unit. Raises `UsageError` if there is none."""
    from model.activation.factory import canonical

    try:
        return canonical(text)
    except ValueError as error:
        raise UsageError(f'--act-type: {error}') from None


def check_reduction(r: int) -> int:
    """Return `r`. Raises `UsageError` if ATAC units cannot have it."""
    if r < 1:
        raise UsageError(f'--r is {r}; allowed: 1 and above, the published networks have --r 2')
    return r


def with_plugins(files: Optional[Sequence[str]]) -> List[Any]:
    """Load the files of --plugin, and return what was loaded.

    Raises `UserError` if one cannot be loaded. Needs MXNet.
    """
    from model.plugins import load_plugins

    return load_plugins(files or [])


def with_options(options: Mapping[str, Any], text: str) -> Dict[str, Any]:
    """Return `options` and those of --option.

    Raises `UsageError` if a value is not YAML, or other flags set the same.
    """
    merged = dict(options)
    for key, value in _pairs(text).items():
        if key in options:
            raise UsageError(f'--option {key}={value}: {key} follows from the other flags; leave it out')
        if key == 'pretrained':
            raise UsageError(f'--option {key}={value}: parameters come by flags of their own; leave it out')
        try:
            merged[key] = read_yaml(value)
        except ValueError:
            raise UsageError(f'--option {key}={value}: {value!r} is not a number, word or [list]') from None
    return merged
