"""Compare modules with what `written.py` kept of the networks that they came from; run by a Python that has torch.

python torch_side.py FOLDER ...      with --also: torch.compile, torch.onnx.export; with --inductor: its compiler, too
"""

import importlib.util
import json
import pathlib
import sys
import warnings

import numpy as np
import torch

RATE, MOMENTUM, DECAY, STEPS = 2**-7, 0.875, 2**-10, 3


def module(folder):
    spec = importlib.util.spec_from_file_location('net', folder / 'net.py')
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made.load()


def apart(one, other):
    other = np.asarray(other)
    return float(np.abs(one.detach().numpy() - other).max() / max(np.abs(other).max(), 1e-30))


def compared(folder):
    known = np.load(folder / 'known.npz')
    net = module(folder).double()
    named = dict(net.named_parameters())
    state = {name: value for name, value in net.state_dict().items() if not name.endswith('num_batches_tracked')}
    values = {name[len('value:') :] for name in known if name.startswith('value:')}
    assert set(state) == values, set(state) ^ values
    frozen = set(json.loads(str(known['frozen'])))
    assert {name for name, parameter in named.items() if not parameter.requires_grad} <= frozen
    data, labels = torch.from_numpy(known['data']), torch.from_numpy(known['labels'])
    with torch.no_grad():
        single = net.float()(data.float()).double()
        net = module(folder).double()
        named = dict(net.named_parameters())
        figures = {'float32': apart(single, known['evaluated']), 'evaluated': apart(net(data), known['evaluated'])}
    net.train()
    optimizer = torch.optim.SGD(
        [parameter for parameter in net.parameters() if parameter.requires_grad], RATE, MOMENTUM, weight_decay=DECAY
    )
    largest = max(np.abs(known[name]).max() for name in known if name.startswith('gradient:'))
    for step in range(STEPS):
        logits = net(data)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, labels).backward()
        if step == 0:
            figures['trained'] = apart(logits, known['trained'])
            worst = 0.0
            for name, parameter in named.items():
                if parameter.requires_grad:
                    expected = known[f'gradient:{name}']
                    found = np.zeros_like(expected) if parameter.grad is None else parameter.grad.numpy()
                    # A gradient that is mere rounding is compared on the scale of the others.
                    scale = max(np.abs(expected).max(), 1e-6 * largest)
                    worst = max(worst, float(np.abs(found - expected).max() / scale))
            figures['gradients'] = worst
        optimizer.step()
    ours = {name: value for name, value in net.state_dict().items() if not name.endswith('num_batches_tracked')}
    steps = {name: apart(value, known[f'value:{name}']) for name, value in ours.items()}
    figures['steps'], worst = max((value, name) for name, value in steps.items())
    if figures['steps'] > 1e-4:
        print(worst, figures['steps'], file=sys.stderr)
    return figures


def of_training(net, data, labels):
    """Return the logits and the gradients, {name: array}, of one training step."""
    net.train()
    logits = net(data)
    torch.nn.functional.cross_entropy(logits, labels).backward()
    return {'logits': logits, **{name: each.grad for name, each in net.named_parameters() if each.grad is not None}}


def compiled(folder, backend):
    """Check that `torch.compile` without graph breaks gives the eager module's logits and gradients, in both modes."""
    known = np.load(folder / 'known.npz')
    data, labels = torch.from_numpy(known['data']).double(), torch.from_numpy(known['labels'])
    evaluated, trained = (module(folder).double() for _ in '12')
    with torch.no_grad():
        worst = apart(torch.compile(evaluated, backend=backend, fullgraph=True)(data), evaluated(data))
    expected = of_training(trained, data, labels)
    again = module(folder).double()
    logits = torch.compile(again.train(), backend=backend, fullgraph=True)(data)
    torch.nn.functional.cross_entropy(logits, labels).backward()
    found = {'logits': logits, **{name: each.grad for name, each in again.named_parameters() if each.grad is not None}}
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    largest = max(float(value.detach().abs().max()) for name, value in expected.items() if name != 'logits')
    for name, value in expected.items():
        # A gradient that is mere rounding is compared on the scale of the others.
        scale = max(float(value.detach().abs().max()), 0 if name == 'logits' else 1e-6 * largest)
        worst = max(worst, float((found[name] - value).detach().abs().max()) / scale)
    torch._dynamo.reset()
    return worst


def exported(folder):
    """Check that `torch.onnx.export` writes a file for any batch size, with the same outputs in ONNX Runtime."""
    import onnxruntime

    data = torch.from_numpy(np.load(folder / 'known.npz')['data']).float()
    net, file = module(folder), str(folder / 'torch.onnx')
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        expected = net(data).numpy()
        torch.onnx.export(net, (data,), file, dynamo=True, verbose=False, dynamic_shapes=({0: torch.export.Dim('N')},))
    session = onnxruntime.InferenceSession(file)
    answer = session.run(None, {session.get_inputs()[0].name: data.numpy()[:1]})[0]
    return apart(torch.from_numpy(answer), expected[:1])


if __name__ == '__main__':
    torch.set_num_threads(1)
    wanted = [argument for argument in sys.argv[1:] if not argument.startswith('--')]
    result = {}
    for name in wanted:
        folder = pathlib.Path(name)
        figures = compared(folder)
        if '--also' in sys.argv:
            figures['compiled'] = compiled(folder, 'aot_eager')
            figures['exported'] = exported(folder)
        if '--inductor' in sys.argv:
            figures['inductor'] = compiled(folder, 'inductor')
        result[folder.name] = figures
        print(folder.name, {key: f'{value:.1e}' for key, value in figures.items()}, file=sys.stderr, flush=True)
    print(json.dumps(result))
