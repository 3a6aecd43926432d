"""The flags that name a trained network, for every script that takes one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from common.console import detail, remark, timed
from data.choices import INTERPOLATIONS
from environment import UsageError, UserError
from inference.choices import MODES
from training.config.fields import Group, flag, typed
from training.config.flags import number
from training.config.model_options import option_flag, plugin_flag, with_options, with_plugins
from training.config.settings import Parser, refuse
from training.config.weights_dir import weights_dir_flag

__all__ = [
    'DEFAULT_MODE',
    'Detector',
    'Found',
    'Network',
    'Networks',
    'Others',
    'check_network_flags',
    'devices_from',
    'fetch_pretrained',
    'network_from',
    'networks_from',
    'numbers',
    'refuse_others',
]

DEFAULT_MODE = 'hybrid'  # of --mode, which is None if it is not given
# Flags about the size of images, by task.
SIZES = {'classification': ('size', 'resize'), 'detection': ('short', 'max_size')}

# Flags that only apply to networks of one task, by task.
Only = Mapping[str, Sequence[str]]


Others = Callable[[Any, str], None]  # raises `UsageError` for flags that do not apply to a loaded network

_PARAMS = {
    'metavar': 'FILE',
    'help': 'parameters, or a run folder for its best ones; the manifest (.json) beside them describes the network',
}
_PRETRAINED = {
    'metavar': 'SOURCE',
    'help': 'instead of --params: weights of torchvision, timm, pytorchcv, gluoncv or open-atac, which are '
    'downloaded (timm:TAG or timm:MODEL.TAG for particular ones), those that come with the project (cifar10), or the '
    'best, for the network of --model',
}
_MODEL = {'metavar': 'NAME', 'help': 'network, if there is no manifest, or to override it'}


def _several(name: str, options: Dict[str, Any]) -> Any:
    return flag(name, action='append', **{**options, 'help': options['help'] + '; repeat it for further networks'})


@dataclass(frozen=True)
class Network(Group):
    """A trained network, and settings that override its manifest."""

    title = 'network'

    params: Optional[str] = flag('--params', **_PARAMS)
    pretrained: Optional[str] = flag('--pretrained', **_PRETRAINED)
    weights_dir: Optional[str] = weights_dir_flag('--pretrained')
    model: Optional[str] = flag('--model', **_MODEL)
    plugin: Optional[List[str]] = plugin_flag()
    option: str = option_flag()
    classes: Optional[int] = flag('--classes', type=number(int, 1), help='number of classes')
    class_names: Optional[str] = flag(
        '--class-names', metavar='FILE', help='text file with one class name on each line'
    )
    size: Optional[int] = flag('--size', type=number(int, 1), help="side of the network's input in pixels")
    resize: Optional[int] = flag('--resize', type=number(int, 1), help='short side of images before the crop')
    interpolation: Optional[str] = flag(
        '--interpolation', choices=INTERPOLATIONS, help='how images are scaled, see "train_imagenet.py --help"'
    )
    mean: Optional[str] = flag('--mean', metavar='R,G,B', help='mean for the normalisation, on the scale 0 to 1')
    std: Optional[str] = flag('--std', metavar='R,G,B', help='standard deviation for the normalisation')
    mode: Optional[str] = flag(
        '--mode',
        choices=MODES,
        help='how to run it: operator by operator, as a graph, or as a graph with fixed memory (default: hybrid)',
    )
    gpus: str = flag('--gpus', default='', help='numbers of GPUs, separated by commas; without it, the CPU')

    @property
    def may_be_planned(self) -> bool:
        """Return whether the flags leave open how the network runs."""
        return self.mode is None and ',' not in self.gpus


@dataclass(frozen=True)
class Networks(Network):
    """Several trained networks: one for each of `params`, then of `pretrained`, with its `model` if there are any."""

    params: Optional[List[str]] = _several('--params', _PARAMS)
    pretrained: Optional[List[str]] = _several('--pretrained', _PRETRAINED)
    model: Optional[List[str]] = _several('--model', _MODEL)
    mode: None = None


@dataclass(frozen=True)
class Detector(Group):
    """Settings that override a detector's manifest."""

    title = 'detector, if the manifest of --params says so'

    short: Optional[int] = flag('--short', type=number(int, 32), help='shorter side of images, at most, in pixels')
    max_size: Optional[int] = flag('--max-size', type=number(int, 32), help='longer side, at most, in pixels')


class Found(NamedTuple):
    """A `LoadedNetwork`, its devices, its file of parameters, and whether the flags leave open how it runs."""

    network: Any
    devices: List[Any]
    params: str
    may_be_planned: bool


def check_network_flags(network: Network) -> None:
    """Raise `UsageError` unless --params or --pretrained is given, and only one of them for a single network."""
    if not network.params and not network.pretrained:
        raise UsageError('--params is missing; give FILE, or --pretrained SOURCE for public weights')
    if network.params and isinstance(network.pretrained, str):
        raise UsageError(
            f'--params {network.params} and --pretrained {network.pretrained} exclude each other; give one'
        )
    if network.weights_dir is not None and not network.pretrained:
        raise UsageError('--weights-dir is for --pretrained, which is not given')


def _prepare_fetching(wanted: Network) -> None:
    from model.parameters.fetched import fetch_from

    fetch_from(wanted.weights_dir)
    with_plugins(wanted.plugin)


def fetch_pretrained(wanted: Network) -> Network:
    """Return the network with a file in `params`, which is downloaded for --pretrained; the rest is in its manifest.

    Raises `UsageError` if there are no such weights, and `UserError` if they cannot be fetched.
    """
    if not wanted.pretrained:
        return wanted
    _prepare_fetching(wanted)
    params, model = _pretrained_file(wanted.pretrained, wanted.model, wanted.option)
    return replace(wanted, params=params, model=model, pretrained=None)


def _fetch_several(wanted: Networks) -> Networks:
    if not wanted.pretrained:
        return wanted
    _prepare_fetching(wanted)
    before = wanted.params or []
    models = wanted.model or [None] * (len(before) + len(wanted.pretrained))
    _check_models(models, len(before) + len(wanted.pretrained))
    pairs = zip(wanted.pretrained, models[len(before) :])
    found = [_pretrained_file(name, model, wanted.option) for name, model in pairs]
    return replace(
        wanted,
        params=[*before, *(path for path, _ in found)],
        model=[*models[: len(before)], *(model for _, model in found)],
        pretrained=None,
    )


def _pretrained_file(wanted: str, model: Optional[str], option: str) -> Tuple[str, str]:
    """Return the file of parameters, and the network's name."""
    from model import get_model
    from model.parameters.by_name import find_pretrained
    from model.parameters.weights import network_of

    try:
        name = model or network_of(wanted)
        options = with_options({}, option)
        get_model(name, **options)  # what is wrong with a name or an option goes first
        found = find_pretrained(get_model, name, options, True if wanted == 'best' else wanted)
    except (TypeError, ValueError) as error:
        raise UsageError(f'--pretrained {wanted}: {error}') from error
    return str(found.path), name


def _check_models(models: List[Optional[str]], count: int) -> None:
    if len(models) != count:
        raise UsageError(
            f'--model is given {len(models)} times, and --params and --pretrained {count} times; give one for each'
        )


def numbers(flag: str, text: Optional[str]) -> Optional[List[float]]:
    """Read '0.4,0.5,0.6' as a list."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(',')]
    except ValueError:
        raise UsageError(
            f'{flag} {text} must be three numbers separated by commas, such as 0.485,0.456,0.406'
        ) from None


def _class_names(path: Optional[str]) -> Optional[List[str]]:
    if path is None:
        return None
    try:
        lines = Path(path).read_text(encoding='utf-8').splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, 'strerror', None) or 'it is no UTF-8 text'
        raise UserError(f'--class-names {path} cannot be read ({reason}); give a text file') from error
    return [line.strip() for line in lines if line.strip()]


def devices_from(gpus: str) -> List[Any]:
    """Return those of --gpus; where it asks for some and none is visible the CPU, which is said on stderr."""
    from training.distributed.devices import contexts, without_notices

    devices, line = contexts(gpus, doing='computing')
    if gpus.strip() and devices[0].device_type == 'cpu':
        remark(line)
    return without_notices(devices)


def network_from(wanted: Network, detector: Detector, others: Others, task: Optional[str] = None) -> Found:
    """Load the network that the flags name, in its mode.

    Raises `UserError` if a `task` is given and the network has another.
    """
    devices = devices_from(wanted.gpus)
    wanted = fetch_pretrained(wanted)
    network = _loaded(wanted, detector, devices, others, task).in_mode(wanted.mode or DEFAULT_MODE)
    return Found(network, devices, wanted.params, wanted.may_be_planned)


def _loaded(wanted: Network, detector: Detector, devices: List[Any], others: Others, task: Optional[str]) -> Any:
    from inference.network import TASKS, load_network
    from training.logging.outputs import tell_versions

    with_plugins(wanted.plugin)
    options, names = with_options({}, wanted.option), _class_names(wanted.class_names)
    tell_versions()
    with timed(f'loading {wanted.params}'):
        network = load_network(wanted.params, wanted.model, options, wanted.classes, names, devices, task)
    detail(f'{network.name}: a {TASKS[network.task].noun} on {", ".join(map(str, devices))}')
    others(network, wanted.params)
    try:
        return network.changed(
            mean=numbers('--mean', wanted.mean),
            std=numbers('--std', wanted.std),
            size=wanted.size,
            resize=wanted.resize,
            interpolation=wanted.interpolation,
            short=detector.short,
            max_size=detector.max_size,
        )
    except ValueError as error:
        flags = ', '.join(f'--{name.replace("_", "-")}' for name in SIZES[network.task])
        raise UsageError(f'{flags}, --mean or --std: {error}') from error


def refuse_others(parser: Parser, values: Mapping[str, Any], only: Only, network: Any, source: str) -> None:
    """Raise `UsageError` for a flag that does not apply to this network; `only` lists the flags for a single task.

    `values` are all of the `parser`'s.
    """
    from inference.network import TASKS

    for task, names in only.items():
        if task != network.task:
            said = f'{TASKS[task].noun}s, and {source} is of a {TASKS[network.task].noun}'
            refuse(parser, values, names, said)


def networks_from(wanted: Networks) -> Tuple[List[str], List[Any]]:
    """Load the classifiers that the flags name; return their parameter files, and the networks."""
    wanted = _fetch_several(wanted)
    models = wanted.model or [None] * len(wanted.params)
    _check_models(models, len(wanted.params))
    loaded = []
    for params, model in zip(wanted.params, models):
        one = typed(Network, {**vars(wanted), 'params': params, 'model': model})
        loaded.append(_loaded(one, Detector(), devices_from(one.gpus), lambda *_: None, 'classification'))
    return wanted.params, loaded
