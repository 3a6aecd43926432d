"""The project's structure as CONTRIBUTING describes it: which folder imports which, and how long things are."""

import ast
import re
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: From the ground up: a package imports those before it.
FLOORS = ('common', 'environment', 'kernels', 'model', 'data', 'inference', 'training', 'detection')
OUTSIDE = ('scripts', 'tools', 'examples')
LINES = 60  # of a function
PARAMETERS = 8  # of a constructor; more belong into a dataclass

#: Constructors with more parameters: of backbones and detectors, which are what a published network may differ in, and
#: passed by name by `get_model` and `get_detector`.
MANY = ('model.backbone.', 'detection.cascade.', 'detection.retinanet.')


@lru_cache(maxsize=None)
def modules():
    """Return {dotted name: syntax tree} of the packages, the scripts and the tools."""
    folders = [ROOT / name for name in (*FLOORS, *OUTSIDE)]
    files = [*ROOT.glob('*.py'), *(file for folder in folders for file in folder.rglob('*.py'))]
    return {'.'.join(file.relative_to(ROOT).with_suffix('').parts): ast.parse(file.read_bytes()) for file in files}


@lru_cache(maxsize=None)
def folder_of(module):
    """Return a module's folder: 'training.optim' for 'training.optim.muon' and for the folder itself."""
    return module if ROOT.joinpath(*module.split('.')).is_dir() else module.rpartition('.')[0]


@lru_cache(maxsize=None)
def imports():
    """Return [(folder, folder that it imports from, where)] of the packages."""
    edges = []
    for name, tree in modules().items():
        if name.partition('.')[0] not in FLOORS:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = [f'{node.module}.{alias.name}' for alias in node.names]
                found = [each if each in modules() or folder_of(each) == each else node.module for each in inner]
            else:
                continue
            for module in found:
                if module.partition('.')[0] in FLOORS:
                    where = f'{name}:{node.lineno} imports {module}'
                    edges.append((name.rpartition('.')[0], folder_of(module), where))
    return edges


def circles(edges):
    """Return the imports from one folder to another that leads back: {(folder, folder): where}."""
    onward = defaultdict(set)
    for (one, other), _ in edges.items():
        onward[one].add(other)

    def reached(room):
        seen, waiting = set(), [room]
        while waiting:
            for each in onward[waiting.pop()] - seen:
                seen.add(each)
                waiting.append(each)
        return seen

    return {pair: where for pair, where in edges.items() if pair[0] in reached(pair[1])}


def edges_between(rooms):
    """Return {(room, room): where} of all imports; `rooms(folder)` names a folder's room, or is None."""
    edges = defaultdict(list)
    for one, other, where in imports():
        pair = rooms(one), rooms(other)
        if None not in pair and pair[0] != pair[1]:
            edges[pair].append(where)
    return edges


def test_no_package_imports_one_above_it():
    wrong = [
        where
        for (one, other), places in edges_between(lambda folder: folder.partition('.')[0]).items()
        if FLOORS.index(other) > FLOORS.index(one)
        for where in places
    ]
    assert wrong == []


def test_the_folders_of_training_import_one_another_in_one_direction():
    rooms = edges_between(lambda folder: folder if folder.partition('.')[0] == 'training' else None)
    assert circles(rooms) == {}


def test_training_knows_nothing_of_what_is_above_it_or_beside():
    assert [where for one, other, where in imports() if one.startswith('training') and 'inference' in other] == []


def test_a_circle_is_found():
    edges = {('a', 'b'): ['x'], ('b', 'c'): ['y'], ('c', 'a'): ['z'], ('a', 'd'): ['w']}
    assert set(circles(edges)) == {('a', 'b'), ('b', 'c'), ('c', 'a')}


@lru_cache(maxsize=None)
def functions():
    """Return [(dotted name, node)] of all functions."""

    def within(prefix, node):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
                name = f'{prefix}.{child.name}'
                if isinstance(child, ast.FunctionDef):
                    yield name, child
                yield from within(name, child)
            else:
                yield from within(prefix, child)

    return [each for module, tree in modules().items() for each in within(module, tree)]


def parameters(node):
    given = node.args
    return [*getattr(given, 'posonlyargs', []), *given.args, *given.kwonlyargs]


def test_docstrings_list_arguments_as_google_does():
    """The linter does not see NumPy's `name : description` outside a section."""
    numpys = re.compile(r'^\s*`*[a-z_*]+`*(, `*[a-z_*]+`*)* : ', re.MULTILINE)
    found = [
        f'{name}: {node.name}'
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and numpys.search(ast.get_docstring(node) or '')
    ]
    assert found == []


def lines_of(node):
    """Return the number of a function's own lines, without those of classes that it defines."""
    return (
        node.end_lineno - node.lineno + 1 - sum(lines_of(each) for each in node.body if isinstance(each, ast.ClassDef))
    )


def test_functions_end():
    long = {name: lines_of(node) for name, node in functions()}
    assert {name: lines for name, lines in long.items() if lines > LINES} == {}


def test_constructors_take_few_parameters():
    counts = {name: len(parameters(node)) - 1 for name, node in functions() if node.name == '__init__'}
    assert {n: c for n, c in counts.items() if c > PARAMETERS and not n.startswith(MANY)} == {}


def takes_a_namespace(node):
    """Return whether a parameter is a Namespace, by its annotation or its usual name."""
    return any(
        each.arg == 'args' or each.annotation is not None and 'Namespace' in ast.dump(each.annotation)
        for each in parameters(node)
    )


def test_settings_are_typed():
    """A Namespace stays where it was parsed and in `main`; argparse calls its own actions with it."""
    taking = [name for name, node in functions() if takes_a_namespace(node)]
    assert [name for name in taking if not name.startswith('training.config.model_options._')] == []


def test_a_namespace_is_found():
    for given in ('args: argparse.Namespace', 'settings: Optional[Namespace]', '*, args: Any', 'x: int, args'):
        assert takes_a_namespace(ast.parse(f'def f({given}): ...').body[0]), given
    assert not takes_a_namespace(ast.parse('def f(*args: Any, settings: Settings): ...').body[0])
