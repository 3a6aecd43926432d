"""Saving and loading a network's parameters, with the manifest that says what they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import mxnet as mx
import numpy as np
from mxnet import gluon

from common.files import atomic_write, sha256_file, write_json
from common.schema import TABLE, read_json
from common.text import printable
from environment import UsageError, UserError
from model.parameters.file_format import check_finite, read_params_file, write_params_file
from model.parameters.gluoncv_names import gluoncv_network
from model.parameters.names import structural_names
from model.parameters.place import params_path
from model.plugins import RECORDS, check_recorded
from model.renamed import as_saved, former_network

__all__ = [
    'described',
    'load_params',
    'manifest_path',
    'not_built',
    'read_manifest',
    'read_params',
    'save_params',
    'set_params',
    'value_of',
]

PathLike = Union[str, Path]
Devices = Union[None, mx.Context, Sequence[mx.Context]]

# Of a manifest, as far as anything here reads it. `replaces` is the manifest of the file that is being replaced.
_FORM = {
    'model?': str,
    'model_kwargs?': (TABLE, None),
    'classes?': int,
    'class_names?': ([str], None),
    'preprocessing?': TABLE,
    'dataset?': str,
    'task?': str,
    'seed?': int,
    'epoch?': int,
    'accuracy?': {...: float},
    'sha256?': str,
    'command?': str,
    'pretrained?': TABLE,
    'plugins?': RECORDS,
    'settings?': TABLE,
    'versions?': TABLE,
    ...: object,
}
_REPLACES = 'replaces'


def manifest_path(path: PathLike) -> Path:
    """Return where the manifest of a parameter file lies: beside it, with ``.json`` in place of ``.params``."""
    return Path(path).with_suffix('.json')


def read_manifest(path: PathLike) -> Optional[Dict[str, Any]]:
    """Return the manifest of the parameter file ``path``, or None when it has none (files of other origin).

    While a file is being replaced its manifest describes both, the new and the old one: what is returned is that of the
    file that is there. Raises ``UserError`` if there is a manifest that cannot be read, or whose entries are not what
    they should be.
    """
    path = params_path(path)
    file = manifest_path(path)
    if not os.path.exists(file):  # also where the folder may not be read: the parameters then cannot be either
        return None
    advice = f'restore it from where {path} came from'
    try:
        manifest = read_json(file, {**_FORM, f'{_REPLACES}?': {**_FORM, 'sha256': str}})
    except OSError as error:
        raise UserError(f'{file}: the manifest cannot be read ({error.strerror}); {advice}') from error
    except ValueError as error:
        raise UserError(f'{file}: not a readable manifest: {error}; {advice}') from error
    replaced = manifest.pop(_REPLACES, None)
    if replaced is not None and Path(path).exists() and sha256_file(path) == replaced['sha256']:
        return replaced
    return manifest


def value_of(parameter: gluon.Parameter) -> np.ndarray:
    """Return a copy of a parameter's value on its first device. Waits for all computation to finish."""
    # On a CPU, inference turns weights into oneDNN's layout in place, as it comes to them. MXNet's own reading waits
    # for who writes a weight, but not for a forward pass that will: a copy made meanwhile holds wrong numbers.
    mx.nd.waitall()
    return parameter.data(parameter.list_ctx()[0]).asnumpy()


def save_params(
    net: gluon.HybridBlock,
    path: PathLike,
    manifest: Optional[Mapping[str, Any]] = None,
    dtype: Optional[str] = None,
) -> None:
    """Write the parameters in MXNet's own format (``net.load_parameters`` reads them), and the manifest beside them.

    Waits for all computation to finish. All writes are atomic, and at every moment the file that is there, the old or
    the new one, has the manifest that belongs to it, with the file's sha256 added, and the plugins that the network has
    parts from. Shared parameters are stored once.
    ``dtype`` (such as ``'float16'``) converts on the way; batch norm statistics, which overflow there, stay as they
    are, and ``UserError`` names an array of other values that do.
    What the network has of pretrained parameters, their origin and preprocessing, is in the manifest too, unless that
    says otherwise.
    """
    path = Path(path)
    if manifest is not None and getattr(net, 'pretrained', None):
        said = {'preprocessing': net.preprocessing} if net.preprocessing else {}
        manifest = {**said, 'pretrained': net.pretrained, **manifest}
    if manifest is not None and getattr(net, 'plugins', ()):
        manifest = {**manifest, 'plugins': list(net.plugins)}
    arrays: Dict[str, np.ndarray] = {}
    seen = set()
    for name, parameter in net._collect_params_with_prefix().items():
        if id(parameter) in seen:
            continue
        seen.add(id(parameter))
        array = value_of(parameter)
        if dtype is not None and not name.endswith(('running_mean', 'running_var')):
            _check_range(name, array, dtype, str(path))
            array = array.astype(dtype)
        arrays[name] = array

    replaced = _manifest_before(path)
    if manifest is None and 'sha256' in (replaced or {}):
        manifest = {}  # else the sha256 of the old file would be taken for that of the new one
    if manifest is not None and replaced is not None and 'sha256' not in replaced:
        replaced['sha256'] = sha256_file(path)
    complete: Dict[str, Any] = {}

    def write_both(file: BinaryIO) -> None:
        write_params_file(file, arrays)
        file.flush()
        if manifest is not None:
            # First, so that the parameters find it when they take their name.
            complete.update(manifest, sha256=sha256_file(file.name))
            write_json(manifest_path(path), complete if replaced is None else {**complete, _REPLACES: replaced})

    atomic_write(path, write_both)
    if manifest is not None and replaced is not None:
        write_json(manifest_path(path), complete)


def _manifest_before(path: Path) -> Optional[Dict[str, Any]]:
    """Return the manifest, empty if it has none, of the file that is about to be replaced.

    None if there is no such file.
    """
    try:
        return (read_manifest(path) or {}) if path.is_file() else None
    except UserError:  # what cannot be loaded need not be kept
        return None


def _brief(names: List[str]) -> str:
    return ', '.join(map(printable, names[:3])) + (f' and {len(names) - 3} more' if len(names) > 3 else '')


def set_params(
    net: gluon.HybridBlock,
    arrays: Mapping[str, np.ndarray],
    origin: str,
    ctx: Devices = None,
    new: Sequence[str] = (),
) -> None:
    """Give every parameter of ``net`` its array, by structural name (``layer1.0.conv1.weight``).

    A parameter that several blocks share may come under any of its names. Those called ``new`` have no array: they keep
    their values, or get initial ones where they have none. Arrays are converted to the parameter's precision. Checks
    everything first: on ``UserError``, which begins with ``origin`` and names what is missing, extra, of another shape
    or no finite number, the network is unchanged.
    """
    parameters = net._collect_params_with_prefix()
    names_of: Dict[int, List[str]] = {}
    for name, parameter in parameters.items():
        names_of.setdefault(id(parameter), []).append(name)
    chosen = {}
    missing = []
    for names in names_of.values():
        if any(name in new for name in names):
            continue
        given = next((name for name in names if name in arrays), None)
        if given is None:
            missing.append(names[0])
        else:
            chosen[given] = parameters[given]
    extra = [name for name in arrays if name not in parameters]
    known = gluoncv_network(arrays) or former_network(type(net).__name__, arrays)
    if missing or extra:
        parts = [f'{len(missing)} missing ({_brief(missing)})'] if missing else []
        parts += [f'{len(extra)} extra ({_brief(extra)})'] if extra else []
        raise UserError(
            f'{origin}: not the parameters of this network: {"; ".join(parts)}; '
            f'{known or "build the network that they were saved from"}'
        )
    for name, parameter in chosen.items():
        if not _fits(parameter.shape, arrays[name]):
            advice = 'build it with the options (classes, act_reduction, ...) that they were saved with'
            raise UserError(
                f'{origin}: {name} has the shape {tuple(arrays[name].shape)} there and {tuple(parameter.shape)} in '
                f'this network; {known or advice}'
            )
    check_finite({name: arrays[name] for name in chosen}, origin)
    for name, parameter in chosen.items():
        _check_range(name, arrays[name], parameter.dtype, origin)
    for name, parameter in chosen.items():
        _set_value(parameter, arrays[name], ctx)
    for parameter in (parameters[name] for name in new):
        if parameter._data is None:
            parameter.initialize(ctx=ctx or mx.current_context(), default_init=mx.init.MSRAPrelu())
        elif ctx is not None:
            parameter.reset_ctx(ctx)


def _set_value(parameter: gluon.Parameter, array: np.ndarray, ctx: Devices) -> None:
    if parameter._data is None:
        parameter.shape = array.shape
        # The initial value is about to be overwritten; Zero is the cheapest.
        parameter.initialize(mx.init.Zero(), ctx=ctx or mx.current_context(), force_reinit=True)
    elif ctx is not None:
        parameter.reset_ctx(ctx)
    parameter.set_data(mx.nd.array(array, dtype=parameter.dtype))


def _fits(shape: Sequence[int], array: np.ndarray) -> bool:
    """Return whether an array fits a parameter's shape.

    0 and -1 are lengths that a network would find out by itself.
    """
    return len(shape) == array.ndim and all(want in (-1, 0, have) for want, have in zip(shape, array.shape))


def _check_range(name: str, array: np.ndarray, dtype: Any, origin: str) -> None:
    """Raise ``UserError`` if finite values become infinite in the precision ``dtype``."""
    dtype = np.dtype(dtype)
    if dtype.kind != 'f' or np.can_cast(array.dtype, dtype) or not array.size:
        return
    extremes = np.array([array.min(), array.max()])
    with np.errstate(over='ignore'):
        if not np.isfinite(extremes.astype(dtype)).all():
            raise UserError(
                f'{origin}: {name} reaches {max(abs(float(extreme)) for extreme in extremes):.3g}, and {dtype} ends '
                f'at {np.finfo(dtype).max:.3g}; take a wider precision'
            )


def read_params(net: gluon.HybridBlock, path: PathLike) -> Dict[str, np.ndarray]:
    """Return the arrays of a file that was saved by us, by GluonCV or by open-atac, by the structural names of ``net``.

    It may also be what ``collect_params().save``, ``HybridBlock.export`` or a ``Module`` saved of such a network
    (:mod:`model.parameters.names`). Whether the arrays fit is :func:`set_params`'s to say. When a manifest lies beside
    the file, its sha256 is checked. Raises ``UserError`` if the file is missing or damaged, or its names are
    ambiguous.
    """
    path = params_path(path)
    manifest = read_manifest(path)
    if manifest is not None and 'sha256' in manifest and Path(path).exists():
        found = sha256_file(path)
        if found != manifest['sha256']:
            raise UserError(
                f'{path}: damaged: its sha256 is {found[:12]}..., and {manifest_path(path).name} states '
                f'{manifest["sha256"][:12]}...; fetch or save it again'
            )
    return structural_names(read_params_file(path), net, path)


def load_params(net: gluon.HybridBlock, path: PathLike, ctx: Devices = None, new_classifier: bool = False) -> None:
    """Load parameters saved by us, by GluonCV or by open-atac, float16 or float32, into ``net``.

    Any way of saving them will do: ``save_parameters``, ``collect_params().save``, ``export``, a ``Module``'s.

    ``net`` may be uninitialised; ``ctx`` is a device or a list of them (default: where the network is, else the current
    one). Arrays are converted to the network's precision. When a manifest lies beside the file, its sha256 is checked.
    With ``new_classifier`` the file's classifier is left out, whatever its classes: the network's keeps its values, or
    gets initial ones.

    Raises ``UserError`` if the file is missing, damaged or of another network; the network is then unchanged.
    """
    new = net.classifier_parameters() if new_classifier else ()
    arrays = {name: array for name, array in read_params(net, path).items() if name not in new}
    set_params(net, arrays, str(path), ctx, new)


def described(params: PathLike, model: Optional[str], what: str) -> Tuple[str, Dict[str, Any], str, Dict[str, Any]]:
    """Return path, manifest, name and arguments of the ``what`` ('network', 'detector') that a file belongs to.

    ``model`` goes before the manifest's name, and the manifest's arguments count only if the name is its own. Raises
    ``UserError`` if there is no such file, or where the network is of a plugin that is not loaded. Raises
    ``UsageError`` where nothing says the name.
    """
    path = params_path(params)
    if not os.path.isfile(path):
        raise UserError(f'{path}: there is no such file; give the path of a .params file, or the folder of a run')
    manifest = read_manifest(path) or {}
    name = model or manifest.get('model')
    if name is None:
        raise UsageError(
            f'{path} has no manifest (a .json file beside it) that says which {what} it is; give --model NAME'
        )
    if name != manifest.get('model'):
        return path, manifest, name, {}
    check_recorded(manifest.get('plugins', ()), path)
    if as_saved(name, ['.conv3.']) != name:  # a former name, perhaps
        name = as_saved(name, list(read_params_file(path)))
    return path, manifest, name, dict(manifest.get('model_kwargs') or {})


def not_built(params: PathLike, error: Exception, alone: bool) -> UserError:
    """Return the error to raise where nothing can be built of what `described` returned, or of what was given over it.

    `alone` says that nothing was given.
    """
    if alone:
        return UserError(f'{manifest_path(params)}: {error}; restore it from where {params} came from')
    return UsageError(f'--model: {error}')
