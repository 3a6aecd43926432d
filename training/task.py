"""What one kind of training has of its own; everything else is in `training.run`."""

import argparse
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

__all__ = ['Network', 'RunData', 'Task']


class Network(NamedTuple):
    """`get_model(name, **options)`, or `get_detector`; `label` is its name in files."""

    name: str
    options: Mapping[str, Any]
    label: str


class RunData(NamedTuple):
    """What a run trains on and is scored on.

    `train` and `val` are loaders (see `data.classification.loader`); `images` and `val_images` count the images of all
    processes; `notes` are lines for the log; `manifest` goes into the manifests of parameters.
    """

    train: Any
    val: Any
    name: str
    class_names: Sequence[str]
    preprocessing: Any  # data.preprocessing.Preprocessing
    images: int
    val_images: int
    notes: Sequence[str] = ()
    manifest: Mapping[str, Any] = {}

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def told_apart(self) -> List[Any]:
        """What each class is told from the others by: the id of its category where it has one, else its name."""
        return list(self.manifest.get('categories', self.class_names))


class Task(NamedTuple):
    """`family` is the word for it in the names of the best parameters.

    `network(settings, classes)` and `load(settings, devices, ranks)` read the flags and raise `UsageError` or
    `UserError`; `words(settings)` are data set and network in a run folder's name; `epoch_lines(row)` is what the text
    log says of an epoch; `best_figure(top1)` stands in the names of the best parameters; `modes` are further names of
    modes; with `only_summary`, --summary prints the layers and ends; `measure(data, settings, ranks)` gives the
    figures of --data-only; `recipe` is a class in place of `training.assemble.Recipe`, of the same methods; `manifest`
    goes into the manifests of parameters.
    """

    family: str
    network: Callable[[argparse.Namespace, int], Network]
    load: Callable[..., RunData]
    words: Callable[[argparse.Namespace], Tuple[str, str]]
    epoch_lines: Callable[[Mapping[str, Any]], List[str]]
    best_figure: Callable[[float], float]
    modes: Mapping[str, str] = {}
    only_summary: bool = False
    measure: Optional[Callable[..., Dict[str, Any]]] = None
    recipe: Optional[Any] = None
    manifest: Mapping[str, Any] = {}

    @property
    def classifies(self) -> bool:
        return 'task' not in self.manifest
