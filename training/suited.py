"""Settings that suit images of a user's own, where neither the command line nor a file of flags says anything.

The defaults of the scripts are those of the papers' code, for 50,000 images or a million. A few hundred photos want
trained parameters to start from, smaller steps, more epochs and milder cuts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Set

from data.classification.survey import Survey
from environment import UsageError, UserError
from model import input_size
from training.checkpoints.start import pretrained_file
from training.config.fields import SettingsParser
from training.config.groups import Settings
from training.task import Network

__all__ = ['Suited', 'suited']

STARTS = {'use_pretrained', 'init_params', 'resume_from', 'resume_states'}  # fields that say what to start from
SMALLEST = 64  # pixels of the input of a network for ImageNet's sizes
# Images shown in a whole run, and how many epochs that may be: from trained parameters, and from nothing.
SHOWN = {True: (5_000, 5, 20), False: (40_000, 30, 100)}
STEPS = 20  # in an epoch, at least
# The learning rate of steps of 32 images, which grows with them.
RATES = {True: 0.02, False: 0.05}
# The smallest share of an image that training cuts out, for as many images at most.
AREAS = ((1_000, 0.5), (10_000, 0.25))


@dataclass
class Suited:
    """The chosen settings by field, and a line about each."""

    values: Dict[str, Any] = field(default_factory=dict)
    lines: List[str] = field(default_factory=list)


def suited(
    parser: SettingsParser,
    settings: Settings,
    stated: Set[str],
    found: Survey,
    devices: Any,
    choose: Callable[[Settings], Network],
) -> Suited:
    """Choose the settings that are not `stated`.

    Args:
        parser: the parser of the script.
        settings: the settings so far.
        stated: the fields that the command line and files of flags set.
        found: the images.
        devices: the devices of the whole run.
        choose: returns the network that settings ask for.
    """
    chosen = Suited()
    known = settings.values()

    def take(name: str, value: Any, why: str) -> None:
        if name in known and name not in stated:
            chosen.values[name] = value
            shown = f'{value:g}' if isinstance(value, float) else value
            chosen.lines.append(f'chosen for these images: {parser.spelled(name)} {shown}: {why}')

    images = min(found.images, settings.images.limit_train or found.images)
    gpu = devices[0].device_type == 'gpu'
    model = default_model(known, stated, gpu)
    if model is not None:
        take('model', model, 'as none is given')
    network = choose(settings.with_values(chosen.values))
    trained = _start(network, known, stated, take, chosen.lines)
    side = _side(network, known, found, stated, take)
    batch = _batch(images, len(devices), side, gpu)
    take('batch_size', batch, f'{images // (batch * len(devices)):,} steps an epoch')
    total = chosen.values.get('batch_size', known['batch_size']) * len(devices)
    shown, fewest, most = SHOWN[trained]
    epochs = max(fewest, min(most, math.ceil(shown / images)))
    take('num_epochs', epochs, f'{images * epochs:,} images in all, of {images:,}')
    rate = RATES[trained] * total / 32
    what = 'from trained parameters' if trained else 'from nothing'
    take('lr', float(f'{rate:.2g}'), f'for steps of {total} images {what}')
    take('lr_mode', 'cosine', 'the learning rate falls to 0 within the run')
    if chosen.values.get('num_epochs', known['num_epochs']) > 4 and 'lr' in chosen.values:
        take('warmup_epochs', 1, 'the learning rate rises over the first epoch')
    area = next((share for limit, share in AREAS if images <= limit), None)
    if area is not None:
        take('min_area', area, f'milder cuts, of {images:,} images')
    if not found.several and known.get('loss') in (None, 'softmax'):
        take('label_smoothing', 0.1, 'few images are learned by heart less surely')
    return chosen


def default_model(known: Mapping[str, Any], stated: Set[str], gpu: bool) -> Optional[str]:
    """Return the network for a script that was told none: one with trained parameters, of a size for the device."""
    if stated & {'model', 'blocks', 'act_type', 'r', 'act_layers', 'use_se', 'use_gn', 'last_gamma', 'option'}:
        return None
    if 'min_area' not in known and (known.get('input_size') or 0) <= SMALLEST:
        return 'cifar_se_resnet20_v2'
    return 'se_resnet50_v1b' if gpu else 'resnet18_v1b'


def _start(
    network: Network, known: Mapping[str, Any], stated: Set[str], take: Callable[..., None], lines: List[str]
) -> bool:
    """Choose trained parameters, if they can be had; whether the run starts from any."""
    if stated & STARTS:
        return any(known.get(name) for name in STARTS)
    try:
        path = pretrained_file(network.name, network.options)
    except UsageError:
        lines.append(f'there are no trained parameters of {network.name}: it starts from nothing')
        return False
    except UserError as error:
        lines.append(f'{error}; this run starts from nothing')
        return False
    take('use_pretrained', 'best', f'{path}; off starts from nothing')
    return True


def _side(
    network: Network, known: Mapping[str, Any], found: Survey, stated: Set[str], take: Callable[..., None]
) -> int:
    """Choose the side of the network's input: its own, or less where the images are smaller."""
    if 'input_size' in stated:
        return known['input_size']
    side, why = input_size(network.name), f'what {network.name} is made for'
    enough = 32 * math.ceil(found.short / 32)
    if side > SMALLEST and 0 < enough < side:
        side, why = max(SMALLEST, enough), f'half of the images have a short side of at most {found.short} pixels'
    take('input_size', side, why)
    if side > SMALLEST:
        take('crop_pad', side // 8, 'pixels that training images are shifted by at most')
    return side


def _batch(images: int, devices: int, side: int, gpu: bool) -> int:
    """Return the images of a step on each device: so few that there are enough steps."""
    most = 128 if side <= SMALLEST else 64 if gpu else 32
    wanted = max(8.0, images / (STEPS * devices))
    return min(most, 2 ** int(math.log2(wanted)), max(1, images // devices))
