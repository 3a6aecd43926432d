"""The parser of flags, and files of flags in YAML."""

import argparse
import difflib
import sys
from typing import Any, Dict, List, Mapping, NoReturn, Optional, Sequence, Set

from environment import UsageError, UserError
from training.config.presets import is_recipe, preset

__all__ = ['Parser', 'read_settings', 'read_yaml', 'refuse']


class Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Prints defaults, except where there is no meaningful one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        in_words = '(default: ' in action.help
        if action.default is None or action.default == '' or action.nargs == 0 or in_words:
            return action.help
        return super()._get_help_string(action)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Keep the lines of the examples, which are to be copied."""
        return text if text.startswith('examples:') else super()._fill_text(text, width, indent)


class Parser(argparse.ArgumentParser):
    """`argparse`, with `UsageError` instead of a usage text and exit, and `--config FILE` with flags in YAML.

    The file may be the name of a preset (`training.config.presets`). In it, keys are flags without the leading dashes,
    with '-' or '_'; lists stand for commas, true for a switch. The command line overrides the file.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(formatter_class=Formatter, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        prefix = 'unrecognized arguments: '
        if message.startswith(prefix):
            flag = message[len(prefix) :].split('=')[0].split()[0]
            near = difflib.get_close_matches(flag, self._option_string_actions, 1, 0.5)
            hint = f'the nearest flag is {near[0]}' if near else 'see --help for the flags'
            message = f'there is no flag {flag}; {hint}'
        raise UsageError(f'{message}; {self.prog} --help explains the flags' if '--help' not in message else message)

    def flags(self) -> Dict[str, argparse.Action]:
        """Return {attribute name: action} of every flag except --help."""
        return {action.dest: action for action in self._actions if action.dest != 'help'}

    def given(self, argv: Sequence[str]) -> Set[str]:
        """Return the attributes of the flags in a command line."""
        words = {word.split('=')[0] for word in argv}
        return {name for name, action in self.flags().items() if words.intersection(action.option_strings)}

    def stated(self, argv: Sequence[str]) -> Set[str]:
        """Return the attributes that a command line sets, or the file that its --config names."""
        config = self.config_of(argv)
        if config is None:
            return self.given(argv)
        keys = {str(key).lstrip('-').replace('_', '-') for key in read_settings(config)}
        spellings = {name: action.option_strings for name, action in self.flags().items()}
        in_file = {name for name, each in spellings.items() if keys & {s.lstrip('-').replace('_', '-') for s in each}}
        return self.given(argv) | in_file

    def config_of(self, argv: Sequence[str]) -> Optional[str]:
        """Return the file of flags that a command line names, itself or as a preset."""
        config = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        config.error = self.error
        config.add_argument('--config')
        name = config.parse_known_args(argv)[0].config
        return None if name is None else str(preset(name, self.prog) or name)

    def follows_recipe(self, argv: Sequence[str]) -> bool:
        """Return whether a command line's file of flags is one of the project's recipes, which are complete."""
        config = self.config_of(argv)
        return config is not None and is_recipe(config)

    def spelled(self, name: str) -> str:
        """Return the flag of the attribute `name`, as help and messages spell it."""
        return self.flags()[name].option_strings[-1]

    def argv_from(self, values: Dict[str, Any], source: str) -> List[str]:
        """Return the settings of a YAML file as a command line.

        Raises `UsageError` naming an unknown key and the nearest valid one.
        """
        names = {spelling.lstrip('-'): a for a in self._actions for spelling in a.option_strings if a.dest != 'help'}
        names.update({name.replace('-', '_'): action for name, action in list(names.items())})
        argv: List[str] = []
        for key, value in values.items():
            key = str(key).lstrip('-')
            if key not in names or names[key].dest == 'config':
                near = difflib.get_close_matches(key, names, 1, 0.0)
                raise UsageError(f"{source} sets '{key}', which is not a flag; the nearest valid name is '{near[0]}'")
            flag = names[key].option_strings[-1]
            if names[key].nargs == 0:
                if not isinstance(value, bool):
                    raise UsageError(f"{source} sets the switch '{key}' to {value!r}; allowed: true, false")
                argv += [flag] if value else []
            elif value is True and names[key].nargs == '?':
                argv += [flag]
            elif value is False and 'off' in (names[key].choices or ()):
                argv += [f'{flag}=off']  # YAML reads this word as False
            elif value is False and names[key].nargs == '?':
                continue
            elif isinstance(value, (dict, bool)):
                raise UsageError(f"{source} sets '{key}' to {value!r}; allowed: one value, or a list for commas")
            elif value is not None:
                argv += [f'{flag}={",".join(map(str, value)) if isinstance(value, list) else value}']
        return argv

    def parse(self, argv: Optional[Sequence[str]] = None, below: Sequence[str] = ()) -> Any:
        """Parse settings from, in rising priority, the defaults, `below`, the file of --config, and `argv`."""
        argv = list(sys.argv[1:] if argv is None else argv)
        path = self.config_of(argv)
        if path is not None:
            argv = self.argv_from(read_settings(path), path) + argv
        return self.parse_args([*below, *argv])


LONGEST = 1 << 16  # characters of settings
# What PyYAML's constructors raise, beside its own errors, for a date with a month 13, a `!!bool maybe` and the like.
_NO_VALUE = (ValueError, KeyError, IndexError, AttributeError, RecursionError)


def read_yaml(text: str) -> Any:
    """Return the value of a YAML text. Raises `ValueError` with a one-line reason if it is invalid."""
    import yaml

    class Loader(yaml.SafeLoader):
        """Without aliases of lists and tables: a few lines of those are billions of entries."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            event = self.peek_event()
            node = super().compose_node(parent, index)
            if isinstance(event, yaml.AliasEvent) and not isinstance(node, yaml.ScalarNode):
                raise yaml.YAMLError(f'*{event.anchor} stands for a list or a table; write it out')
            return node

    if len(text) > LONGEST:
        raise ValueError(f'it has more than {LONGEST} characters, which is too long for settings')
    try:
        return yaml.load(text, Loader)
    except (yaml.YAMLError, *_NO_VALUE) as error:
        raise ValueError(' '.join(str(error).split())) from error


def read_settings(path: str, advice: str = 'fix it or omit --config') -> Dict[str, Any]:
    """Return the content of a YAML file.

    `UserError`, which ends with the `advice`, if it is missing, not YAML, or of another form.
    """
    try:
        with open(path, encoding='utf-8') as file:
            values = read_yaml(file.read(LONGEST + 1))
    except OSError as error:
        raise UserError(f'cannot read {path}: {error.strerror}; {advice}') from error
    except ValueError as error:
        raise UserError(f'{path} is not a YAML file: {error}; {advice}') from error
    if not isinstance(values, (dict, type(None))):
        raise UsageError(f'{path} must hold lines "flag: value", not a {type(values).__name__}; {advice}')
    return values or {}


def refuse(parser: Parser, values: Mapping[str, Any], names: Sequence[str], why: str) -> None:
    """Raise `UsageError` if one of the flags `names` was given, which are for what `why` begins with."""
    for name in names:
        if values.get(name) != parser.get_default(name):
            raise UsageError(f'{parser.spelled(name)} is for {why}; leave it out')
