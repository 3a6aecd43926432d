"""Put finished classification runs into params/: parameters in float16, scored again, with their manifests.

    python tools/ship_params.py runs/se-0 --name cifar10
    python tools/ship_params.py runs/se-0 --name cifar10 --replace --json shipped.json
    python tools/ship_params.py runs/se-0 runs/se-1 runs/se-2 --name cifar10 --about 'CIFAR-10, JPEG-compressed copy'

Of the first seed of a network, the parameters, log, history and settings are kept. Of further seeds, which must have
been trained by the same command, only the manifests are kept, for the mean and spread of the accuracy. Afterwards
`get_model(NETWORK, pretrained='cifar10')` finds the parameters, and `tools/model_table.py --update docs/reproducing.md`
lists all runs.
"""

import _bootstrap
from environment import UsageError, UserError, answer_flags, require_mxnet, run_main  # isort: split

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

from common.files import make_folder, sha256_file, write_json
from common.schema import BELOW, check_schema
from common.together import written_together
from common.usage import described
from training.config.fields import typed
from training.config.flags import number, output_file
from training.config.saved import is_harmless
from training.config.settings import Parser, read_settings


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = Parser(prog='ship_params.py', **described(__doc__))
    parser.add_argument('runs', nargs='+', metavar='RUN', help='folder of a finished run')
    parser.add_argument(
        '--name',
        required=True,
        help='name of the folder and for get_model(pretrained=...): the data set, and the way of training if it has '
        'several',
    )
    parser.add_argument('--about', metavar='TEXT', help='a description of the data, for the tables of trained networks')
    parser.add_argument('--dataset', help="the data set or its path (default: the run's)")
    parser.add_argument('--data-dir', help="where the archives of CIFAR are (default: the run's)")
    parser.add_argument('--params-dir', type=Path, default=_bootstrap.ROOT / 'params', help='folder for the runs')
    parser.add_argument('--batch-size', type=number(int, 1), default=100, help='images at a time')
    parser.add_argument('-j', '--num-data-workers', type=number(int, 1), help='threads that decode image files')
    parser.add_argument('--replace', action='store_true', help='replace another run with the same seed')
    parser.add_argument(
        '--json', type=output_file, metavar='FILE', help='write what was shipped, and its figures, to this file'
    )
    args = parser.parse_args(argv)
    if not args.name.replace('_', '').isalnum():
        raise UsageError(f'--name {args.name} must be a word of letters, digits and _, such as cifar10')
    return args


answer_flags(__name__, parse)
require_mxnet()

from data.classification.by_name import load_dataset
from data.classification.loader import Loader
from data.sampler import Sampler
from inference.network import TASKS, LoadedNetwork, load_network, network_class
from model import load_params, read_manifest, save_params
from model.hybridization import apply_mode
from model.parameters.load import manifest_path
from model.parameters.pretrained import folder_name
from training.evaluate import Scores, evaluate
from training.logging.history import read_history

DTYPE = 'float16'
FAR = 0.005  # the accuracy of rounded parameters is closer to the run's, unless they are scored on other images
# Copied from the run's manifest.
KEPT = ('model', 'model_kwargs', 'classes', 'class_names', 'preprocessing')
# The schema of what is read from a run's settings.
SETTINGS = {'num-epochs': int, 'dataset?': str, 'data-dir?': str, 'logging-file?': BELOW, ...: object}
# What the manifests in one folder have in common, besides the settings that affect the result.
ALIKE = ('model', 'model_kwargs', 'class_names', 'preprocessing', 'dataset', 'epochs')
# Settings in which runs in one folder may differ, besides those that do not affect the result.
FREE = ('seed', 'gpus', 'num-gpus', 'mode')


@dataclass(frozen=True)
class Shipping:
    """Where to put runs, and on which images to score them."""

    name: str
    about: Optional[str]
    dataset: Optional[str]  # None: the run's own
    data_dir: Optional[str]
    params_dir: Path
    batch_size: int
    num_data_workers: Optional[int]
    replace: bool


class Run(NamedTuple):
    """A finished run: its folder, settings, history, last parameters, log, and the manifest of the parameters."""

    folder: Path
    settings: Dict[str, Any]
    rows: List[Dict[str, Any]]
    params: Path
    log: Path
    manifest: Dict[str, Any]

    @property
    def seed(self) -> int:
        return self.manifest['seed']


def require(manifest: Dict[str, Any], keys: Sequence[str], params: Path) -> None:
    """Raise `UserError` if the manifest of `params` lacks one of the keys."""
    missing = [key for key in keys if key not in manifest]
    if missing:
        raise UserError(f'{manifest_path(params)} lacks {", ".join(missing)}; restore it')


def read_run(path: str) -> Run:
    """Read a finished run from its folder.

    Raises:
        UserError: there is no run, it has not finished, or it cannot be shipped.
    """
    folder = Path(path)
    if not (folder / 'settings.yaml').is_file():
        raise UserError(f'{folder} has no settings.yaml; give the folder of a run')
    settings, rows = read_settings(str(folder / 'settings.yaml'), 'restore it'), read_history(folder / 'history.csv')
    try:
        check_schema(settings, SETTINGS)
    except ValueError as error:
        raise UserError(f'{folder / "settings.yaml"} is not from a run: {error}; restore it') from error
    epochs = rows[-1]['epoch'] if rows else 0
    if epochs != settings['num-epochs']:
        raise UserError(f'{folder} has {epochs} of its {settings["num-epochs"]} epochs; let it finish')
    if settings.get('limit-val') is not None:
        raise UserError(f'{folder} was scored on only {settings["limit-val"]} images; ship runs without --limit-val')
    loss = rows[-1]['val_loss']
    # In older runs, the name ends in the number of the last epoch, counted from 0.
    for params in (folder / 'last.params', *sorted(folder.glob(f'*-{epochs - 1}.params'))):
        manifest = read_manifest(params) if params.exists() else None
        if manifest is None or manifest.get('accuracy', {}).get('loss', loss) != loss:
            continue
        task = network_class(manifest.get('task'), str(manifest.get('model'))).task
        if task != LoadedNetwork.task:
            raise UserError(f'{folder} is the run of a {TASKS[task].noun}; give a run of a classifier')
        log = folder / settings.get('logging-file', 'train.log')
        if not log.is_file():
            raise UserError(f'{folder} lacks its log {log}; put it there')
        require(manifest, (*KEPT, 'dataset', 'seed', 'command', 'versions'), params)
        return Run(folder, settings, rows, params, log, manifest)
    raise UserError(f'{folder} has no parameters of its last epoch; let the run finish, with --resume')


def without_paths(text: str, settings: Dict[str, Any]) -> str:
    """Return `text` with the absolute paths of the run's flags cut to their last part; elsewhere they mean nothing."""
    paths = [value for value in settings.values() if isinstance(value, str) and value.startswith(('/', '~'))]
    for path in sorted(paths, key=len, reverse=True):
        text = text.replace(path, Path(path).name)
    return text


def score(network: LoadedNetwork, params: Path, dataset: str, data_dir: Optional[str], shipping: Shipping) -> Scores:
    """Score the parameters in `params` on all test images."""
    load_params(network.net, params)
    apply_mode(network.net, 'hybrid')
    data = load_dataset(
        dataset, 'val', data_dir, workers=shipping.num_data_workers, preprocessing=network.preprocessing
    )
    return evaluate(
        network.net, Loader(data.with_classes(network.class_names), Sampler(shipping.batch_size, last='pad'))
    )


def manifest_of(run: Run, scores: Scores, about: str) -> Dict[str, Any]:
    last = run.rows[-1]
    return {
        **{key: run.manifest[key] for key in KEPT},
        # The name that was given: if it was a link, the run's own manifest has the name of its target.
        'dataset': Path(run.settings.get('dataset', run.manifest['dataset'])).name,
        'data': about,
        'seed': run.seed,
        'epochs': run.rows[-1]['epoch'],
        'epoch': last['epoch'],
        'command': without_paths(run.manifest['command'], run.settings),
        'settings': {
            key: without_paths(value, run.settings) if isinstance(value, str) else value
            for key, value in run.settings.items()
            if not is_harmless(key) and key not in FREE
        },
        'versions': run.manifest['versions'],
        'dtype': DTYPE,
        'images': scores.count,
        'accuracy': {'top1': scores.top1, 'top5': scores.top5, 'loss': scores.loss},
        'accuracy_in_float32': {'top1': last['val_top1'], 'top5': last['val_top5'], 'loss': last['val_loss']},
        'seconds': round(sum(row['seconds'] + row['val_seconds'] for row in run.rows)),
    }


def alike(manifest: Dict[str, Any]) -> Dict[str, Any]:
    """Return what must be the same in all manifests of a folder."""
    return {**{key: manifest[key] for key in ALIKE}, **manifest['settings']}


def check_beside(folder: Path, manifest: Dict[str, Any], replace: bool) -> None:
    """Raise `UserError` if the manifest cannot join those in its folder."""
    own = folder / f'seed-{manifest["seed"]}.json'
    for path in sorted(folder.glob('seed-*.json')):
        other = read_manifest(path.with_suffix('.params')) or {}
        require(other, (*ALIKE, 'settings', 'sha256'), path)
        if path == own:
            if not replace and other['sha256'] != manifest['sha256']:
                raise UserError(f'{path} belongs to another run with this seed; --replace replaces it')
            continue
        for key, mine in alike(manifest).items():
            its = alike(other).get(key, mine)  # a flag that was added later then had its default
            if mine != its:
                raise UserError(
                    f'{path} was trained with a different {key} ({its!r}, and this run with {mine!r}), so their mean '
                    'would be meaningless; give another --name'
                )


def ship(run: Run, shipping: Shipping) -> Dict[str, Any]:
    """Score a run, write what is kept of it, print a summary, and return the figures for --json."""
    network = load_network(run.params, task='classification')
    folder = shipping.params_dir / shipping.name / folder_name(network.name, run.manifest['model_kwargs'])
    with tempfile.TemporaryDirectory() as place:
        rounded = Path(place) / 'rounded.params'
        save_params(network.net, rounded, dtype=DTYPE)
        dataset = shipping.dataset or run.settings.get('dataset')
        if dataset is None:
            raise UsageError(f'--dataset is missing; name the images that {run.folder} was scored on')
        scores = score(network, rounded, dataset, shipping.data_dir or run.settings.get('data-dir'), shipping)
        digest = sha256_file(rounded)
    before = run.rows[-1]['val_top1']
    if abs(scores.top1 - before) > FAR:
        raise UserError(
            f'{run.folder}: top-1 is {100 * scores.top1:.2f} % with rounded parameters, and in training it was '
            f'{100 * before:.2f} %; --dataset must name the test images that it was scored on'
        )
    manifest = {**manifest_of(run, scores, shipping.about or run.manifest['dataset']), 'sha256': digest}
    check_beside(folder, manifest, shipping.replace)
    stem = folder / f'seed-{run.seed}'
    others = [path for path in folder.glob('seed-*.params') if path.stem != stem.name]
    if others:
        kept = stem.with_suffix('.json')
        make_folder(folder)
        write_json(kept, manifest)
        what = f'{kept} (the parameters there are {others[0].name})'
    else:
        load_params(network.net, run.params)
        what = kept = stem.with_suffix('.params')
        files = {'.csv': run.folder / 'history.csv', '.log': run.log, '.yaml': run.folder / 'settings.yaml'}
        with written_together() as new:
            new.make_folder(folder)
            for ending, file in files.items():
                text = without_paths(file.read_text(encoding='utf-8', errors='surrogateescape'), run.settings)
                new.write_text(stem.with_suffix(ending), text)
            # The parameters come last: once they are written, the other files only need to be renamed.
            save_params(network.net, kept, manifest, DTYPE)
    print(
        f'{what}: top-1 {100 * scores.top1:.2f} % on {scores.count} images, {100 * before:.2f} % in float32', flush=True
    )
    same = ('model', 'model_kwargs', 'data', 'seed', 'epochs', 'images', 'accuracy', 'accuracy_in_float32', 'sha256')
    return {'file': str(kept), **{key: manifest[key] for key in same}}


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    shipped = [
        ship(run, typed(Shipping, vars(args))) for run in sorted(map(read_run, args.runs), key=lambda run: run.seed)
    ]
    if args.json:
        write_json(args.json, shipped)
    return 0


if __name__ == '__main__':
    run_main(main)
