r"""Train several networks with several seeds on one data set and the same budget, and report which of them differ.

    python tools/study.py --units none,se,eca,atac --model cifar_resnet8_v2 --seeds 0,1,2 -o runs/study \
        --flags '--dataset digits --num-epochs 3'
    python tools/study.py study.yaml -o runs/study --jobs 4
    python tools/study.py study.yaml -o runs/study          # again: continues unfinished runs, and starts missing ones

study.yaml holds the same flags, with those of the training script as a table:

    units: none,se,eca
    model: cifar_resnet8_v2
    seeds: 0,1,2
    flags: {dataset: digits, num-epochs: 3}

A study may also compare recipes: each is trained as it says, with --flags added to all of them, and with --swap in
networks of another size. The folders of recipes/ that stand for tables of papers contain such a study.yaml:

    python tools/study.py recipes/dianet/reduction/study.yaml -o runs/reduction \
        --flags '--dataset digits --num-epochs 3' --swap resnet164bn=resnet20bn

The output folder gets a folder for each run, results.csv, summary.csv, table.tex and study.html.
"""

import _bootstrap  # noqa: F401
from environment import UsageError, UserError, answer_flags, require_mxnet, run_main  # isort: split

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

from common.files import check_writable, make_folder, write_text
from common.lock import alone
from common.text import as_csv, printable
from common.together import written_together
from common.usage import described
from training.config.fields import typed
from training.config.flags import number
from training.config.settings import Parser, read_settings

SCRIPTS = ('train_cifar.py', 'train_imagenet.py', 'train_detection.py')
STUDY = 'study.yaml'  # the study in a folder of recipes
OURS = ('model', 'seed', 'save_dir', 'json', 'resume')  # flags of the training scripts that the study sets itself


def words(text: str) -> List[str]:
    return [word.strip() for word in str(text).split(',') if word.strip()]


def seeds(text: str) -> List[int]:
    return [number(int, 0)(word) for word in words(text)]


def swap(text: str) -> Dict[str, str]:
    pairs = dict(word.partition('=')[::2] for word in words(text))
    if '' in pairs or '' in pairs.values():
        raise argparse.ArgumentTypeError(f'{text!r} is not allowed; give A=B, such as resnet164bn=resnet20bn')
    return pairs


def make_parser() -> Parser:
    parser = Parser(prog='study.py', **described(__doc__))
    parser.add_argument(
        'study', nargs='?', metavar='YAML', help='a file with these flags; the command line overrides it'
    )
    parser.add_argument('--script', choices=SCRIPTS, default=SCRIPTS[0], help='the training script')
    parser.add_argument('--models', type=words, help='networks to compare, separated by commas')
    parser.add_argument(
        '--units', type=words, help='instead of --models: units to put into --model, separated by commas; none: no unit'
    )
    parser.add_argument(
        '--recipes', type=words, help='instead of --models: YAML files of flags or folders of them, separated by commas'
    )
    parser.add_argument(
        '--swap', type=swap, default='', metavar='A=B', help='with --recipes: replace A by B in the names of networks'
    )
    parser.add_argument('--model', help='the plain network that --units go into, such as cifar_resnet8_v2')
    parser.add_argument('--seeds', type=seeds, default='0,1,2', help='seeds of each network, separated by commas')
    parser.add_argument('--baseline', help='the network to compare the others with (default: the first)')
    parser.add_argument('--metric', default='top1', help='the figure of the last epoch to compare')
    parser.add_argument(
        '--flags',
        default='',
        help='flags of the training script for all runs, in quotes (a single one: --flags=--cutout)',
    )
    parser.add_argument('-o', '--output', default='runs/study', metavar='FOLDER', help='folder for runs and results')
    parser.add_argument('--jobs', type=number(int, 1), default=1, help='simultaneous runs; they share the cores')
    parser.add_argument('--title', default='Study', help='title of the page')
    return parser


def with_unit(model: str, unit: str) -> str:
    """Return the name of `model` with `unit`: 'cifar_se_resnet8_v2' for 'cifar_resnet8_v2' and 'se'.

    The unit 'none' adds nothing.
    """
    lead = 'cifar_' if model.startswith('cifar_') else ''
    return model if unit == 'none' else f'{lead}{unit}_{model[len(lead) :]}'


def as_argv(flags: Any) -> List[str]:
    """Return the training script's flags as a list of arguments, from a text or a table."""
    if isinstance(flags, str):
        return shlex.split(flags)
    argv: List[str] = []
    for name, value in flags.items():
        if value is True:
            argv.append(f'--{name}')
        elif value is not False and value is not None:
            argv.append(f'--{name}={",".join(map(str, value)) if isinstance(value, list) else value}')
    return argv


def recipes_in(paths: Sequence[str]) -> Dict[str, Path]:
    """Return the recipes among files and in folders, by their file names without extension."""
    found: Dict[str, Path] = {}
    for path in map(Path, paths):
        files = sorted(file for file in path.glob('*.yaml') if file.name != STUDY) if path.is_dir() else [path]
        if not files or not all(file.is_file() for file in files):
            raise UsageError(f'--recipes: {path} is neither a YAML file nor a folder that contains any; give one')
        for file in files:
            if file.stem in found:
                raise UsageError(f'--recipes: {found[file.stem]} and {file} have the same name; rename one of them')
            found[file.stem] = file
    return found


def rows_of_recipes(recipes: Sequence[str], swapped: Mapping[str, str]) -> Dict[str, List[str]]:
    """Return the flags of each recipe by its name, with `swapped` applied to the name of its network."""
    rows: Dict[str, List[str]] = {}
    for name, file in recipes_in(recipes).items():
        rows[name] = ['--config', str(file)]
        model = str(read_settings(file, 'mend it').get('model', ''))
        for old, new in swapped.items():
            model = model.replace(old, new)
        if swapped:
            rows[name] += ['--model', model]
    return rows


def parse(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.study is not None:
        settings = read_settings(args.study, 'mend it')
        flags = settings.pop('flags', '')
        file = Path(args.study)
        args = parser.parse_args([*parser.argv_from(settings, args.study), *(sys.argv[1:] if argv is None else argv)])
        args.flags = args.flags or flags
        if args.models is args.units is args.recipes is None:
            args.recipes = [str(file.parent)]  # a study file among recipes compares these
    if not isinstance(args.flags, (str, dict)):
        raise UsageError(f'{args.study}: flags must be a text or a table, not {type(args.flags).__name__}')
    given = [args.models is not None, args.units is not None, args.recipes is not None]
    if sum(given) != 1 or (args.units is None) != (args.model is None):
        raise UsageError('give either --models A,B or both --units none,A,B and --model NAME, or --recipes FOLDER')
    if args.swap and args.recipes is None:
        raise UsageError('--swap only applies to --recipes; leave it out')
    names = args.models or [with_unit(args.model, unit) for unit in args.units or ()]
    args.rows = (
        rows_of_recipes(args.recipes, args.swap) if args.recipes else {name: ['--model', name] for name in names}
    )
    args.models = list(args.rows)
    args.flags = as_argv(args.flags)
    for flag in args.flags:
        name = flag.lstrip('-').partition('=')[0].replace('-', '_')
        if flag.startswith('--') and name in OURS:
            raise UsageError(f'--flags contains {flag}, which the study sets itself; leave it out')
    args.baseline = args.baseline or args.models[0]
    if args.baseline not in args.models:
        raise UsageError(f'--baseline {args.baseline} is not one of the networks {", ".join(args.models)}')
    if not args.models or not args.seeds:
        raise UsageError('--seeds and the networks must each name at least one')
    return args


answer_flags(__name__, parse)
require_mxnet()

from _study_runs import Pool, Run, Study, figure_of, known_json

from training.config.run_folder import RunFolder
from training.logging.history import read_history
from training.report.study import as_latex, compare, lines, study_page, summary_csv


def require_same_study(study: Study, output: Path) -> None:
    """Raise `UserError` if the folder holds runs of another script, or with other flags."""
    now = {'script': study.script, 'flags': study.flags}
    rows = {name: flags for name, flags in study.rows.items() if flags != ['--model', name]}
    if rows:
        now['rows'] = rows
    if study.swap:
        now['swap'] = study.swap  # for the tables of papers
    file = output / 'study.json'
    if file.exists():
        before = known_json(file, {'script': str, 'flags': [str], ...: object})
        if {**before, 'swap': None} != {**now, 'swap': None}:  # the rows have what was swapped
            raise UserError(
                f'{output} holds a study of {before["script"]} {shlex.join(before["flags"])}; '
                'give the same --flags, --recipes and --swap, or choose another -o'
            )
    write_text(file, json.dumps(now, indent=2) + '\n')


def write_results(study: Study, runs: Sequence[Run], output: Path) -> List[str]:
    """Write the results of the finished runs, and return the lines of their table."""
    done = [run for run in runs if run.result.exists()]
    values: Dict[str, Dict[int, float]] = {model: {} for model in study.rows}
    histories: Dict[str, List[Any]] = {model: [] for model in study.rows}
    for run in done:
        values[run.model][run.seed] = figure_of(run, study.metric)
        histories[run.model].append(read_history(RunFolder(run.folder).history))
    rows = compare(values, study.baseline)
    with written_together() as new:
        each = [(run.model, run.seed, values[run.model][run.seed], run.folder) for run in done]
        new.write_text(output / 'results.csv', as_csv(('network', 'seed', f'{study.metric}_percent', 'folder'), each))
        new.write_text(output / 'summary.csv', summary_csv(rows))
        new.write_text(output / 'table.tex', as_latex(rows, study.metric, study.baseline))
        page = study_page(study.title, rows, study.metric, study.baseline, histories)
        new.write(output / 'study.html', lambda file: file.write(page))
    return lines(rows, study.metric)


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse(argv)
    study = typed(Study, vars(args))
    output = Path(args.output)
    make_folder(output)
    check_writable(output / 'study.html')
    runs = [Run(model, seed, output / model / f'seed-{seed}') for seed in args.seeds for model in args.rows]
    with alone(output, 'a study'):
        require_same_study(study, output)
        to_do = [run for run in runs if not run.result.exists()]
        if len(to_do) < len(runs):
            print(f'{len(runs) - len(to_do)} of {len(runs)} runs are already finished')
        pool = Pool(study)
        status = pool.train(to_do)
        if any(run.result.exists() for run in runs):
            table = write_results(study, runs, output)
            if not status:
                print('\n'.join(map(printable, table)))
                print(f'page: {output / "study.html"}; results.csv, summary.csv and table.tex are beside it')
    return status or int(bool(pool.failed))


if __name__ == '__main__':
    run_main(main)
