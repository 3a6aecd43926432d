"""Define as source what has no counterpart in PyTorch; a file contains the parts that its network needs."""

from __future__ import annotations

from typing import Dict

__all__ = ['LOADER', 'PARTS']

PARTS: Dict[str, str] = {
    'BatchNorm': '''
class BatchNorm(nn.BatchNorm2d):
    """Batch norm as MXNet has it: the running variance is that of the batch over n, where PyTorch has n - 1.

    `frozen`: the running statistics serve in training too, and stay as they are.
    """

    def __init__(self, num_features, eps=1e-5, momentum=0.1, frozen=False):
        super().__init__(num_features, eps, momentum)
        self.frozen = frozen

    def forward(self, x):
        if self.frozen or not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        with torch.no_grad():
            variance, mean = torch.var_mean(x.to(self.running_mean.dtype), (0, 2, 3), correction=0)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance, self.momentum)
        return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)
''',
    'InputNorm': '''
class InputNorm(BatchNorm):
    """A norm of the images, without a scale and a shift that would learn; at momentum 0 the statistics never move."""

    def __init__(self, num_features, momentum=0.1, frozen=False):
        super().__init__(num_features, momentum=momentum, frozen=frozen)
        self.requires_grad_(False)
''',
    'Stage': '''
class Stage(nn.Sequential):
    """Blocks in order, each given what the attention of the one before passes on: `(x, *carry) -> (x, *carry)`."""

    def forward(self, x, *carry):
        for block in self:
            x, *carry = block(x, *carry)
        return (x, *carry)
''',
    'SELU': '''
class MXNetSELU(torch.autograd.Function):
    """SELU with the derivative that MXNet has: `scale * (alpha + y)` below zero."""

    @staticmethod
    def forward(ctx, x):
        y = F.selu(x)
        ctx.save_for_backward(x, y)
        return y

    @staticmethod
    def backward(ctx, gradient):
        x, y = ctx.saved_tensors
        scale, alpha = 1.0507009873554805, 1.6732632423543772
        return gradient * torch.where(x > 0, scale, scale * (alpha + y))


class SELU(nn.Module):
    """SELU, trained with MXNet's derivative."""

    def forward(self, x):
        return MXNetSELU.apply(x) if torch.is_grad_enabled() else F.selu(x)
''',
    'sample_variance': '''
def sample_variance(x, mean_square):
    """The variance over space that divides by the positions less one, from the one that divides by all, (N, C)."""
    count = x.shape[2] * x.shape[3]
    return mean_square * (count / max(count - 1, 1))
''',
    'share': '''
def share(block, name, other):
    """Let `block` call a block that belongs to another one: in the state dictionary it appears once, there."""
    object.__setattr__(block, name, other)
''',
}

LOADER = '''
def read_safetensors(path):
    """The tensors of a .safetensors file of float32 numbers, by name."""
    data = pathlib.Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], 'little')
    header = json.loads(data[8:start])
    header.pop('__metadata__', None)
    tensors = {}
    for name, entry in header.items():
        if entry['dtype'] != 'F32':
            raise ValueError(f'{path}: {name} is of the type {entry["dtype"]}; allowed: F32')
        begin, end = entry['data_offsets']
        numbers = torch.frombuffer(bytearray(data[start + begin : start + end]), dtype=torch.float32)
        tensors[name] = numbers.reshape(entry['shape'])
    return tensors


def load(path=None):
    """Return the network in evaluation mode, with the parameters of a file: by default the one beside this module."""
    net = NETWORK()
    net.load_state_dict(read_safetensors(path or pathlib.Path(__file__).with_name('net.safetensors')))
    return net.eval()


def check(net, path=None):
    """Return how far the logits of `net` are from those it was exported with: the largest difference, as a share of
    the largest logit, and the share of images that get the same class."""
    known = read_safetensors(path or pathlib.Path(__file__).with_name('net-check.safetensors'))
    with torch.no_grad():
        logits, expected = net(known['images']), known['logits']
    return {
        'difference': float((logits - expected).abs().max() / expected.abs().max()),
        'same_class': float((logits.argmax(1) == expected.argmax(1)).float().mean()),
        'images': len(expected),
    }


if __name__ == '__main__':
    print(json.dumps(check(load())))
'''
