"""Export networks from outside the project: MXNet's symbols, GluonCV's zoo, SageMaker's archives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence

from common.console import say
from environment import UsageError
from training.config.fields import Group, flag

__all__ = ['FLAGS', 'Foreign', 'export_theirs', 'kinds_that_fit', 'read_theirs']

FLAGS = ('symbol', 'gluoncv', 'sagemaker', 'input_shape')


@dataclass(frozen=True)
class Foreign(Group):
    """A network from outside the project."""

    title = "an MXNet network that is not the project's; docs/from_mxnet.md"

    symbol: Optional[str] = flag('--symbol', metavar='FILE', help='X-symbol.json; give its X-0000.params as --params')
    gluoncv: Optional[str] = flag(
        '--gluoncv', metavar='NAME', help="a network of GluonCV's zoo; give its file as --params"
    )
    sagemaker: Optional[str] = flag(
        '--sagemaker', metavar='FILE', help='model.tar.gz, with a symbol and its parameters in it'
    )
    input_shape: Optional[List[str]] = flag(
        '--input-shape',
        action='append',
        metavar='N,C,H,W',
        help='of its input, such as 1,3,224,224; with a name before it, data=1,3,224,224, where the input has another',
    )

    def given(self) -> List[str]:
        """Return the flags that name a network."""
        return [f'--{name}' for name in FLAGS[:3] if getattr(self, name) is not None]


def read_theirs(wanted: Foreign, params: Optional[str], classes: Optional[int]) -> Any:
    """Read the network that the flags name. Raises `UsageError` if they name none, or two."""
    from inference.foreign import from_archive, from_files, from_gluoncv, parse_shapes

    given = wanted.given()
    if len(given) > 1:
        raise UsageError(f'{" and ".join(given)} name two networks; give only one')
    if (wanted.sagemaker is None) != (params is not None):
        raise UsageError(
            f'{given[0]} cannot be combined with --params, since the archive contains the parameters'
            if wanted.sagemaker
            else f'{given[0]} needs --params, the file with its parameters'
        )
    try:
        shapes = parse_shapes(wanted.input_shape or ())
    except ValueError as error:
        raise UsageError(f'--input-shape: {error}') from error
    if wanted.symbol is not None:
        return from_files(wanted.symbol, params, shapes)
    if wanted.sagemaker is not None:
        return from_archive(wanted.sagemaker, shapes)
    return from_gluoncv(wanted.gluoncv, params, shapes, classes)


def kinds_that_fit(foreign: Any, kinds: Sequence[str]) -> List[str]:
    """Return those of the kinds that there are for the network's input."""
    fitting = [kind for kind in kinds if kind != 'optimized' or len(foreign.shape) == 4]
    if not fitting:
        raise UsageError('--kinds optimized is for inputs of four axes; give mxnet, onnx or openvino')
    return fitting


def export_theirs(foreign: Any, output: str, kinds: Sequence[str], batch: int) -> Dict[str, Dict[str, Any]]:
    """Export the network, and report what was removed from it."""
    from common.lock import alone
    from inference.export import export_foreign

    with alone(output, 'exporting'):
        proof = export_foreign(foreign, output, kinds, batch)
    say(f'{foreign.name} in {output}, for inputs of {" x ".join(map(str, foreign.shape[1:]))}')
    for told in foreign.stripped:
        say(f'removed: {told}')
    return proof
