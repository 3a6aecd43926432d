"""Make the table of public weights."""

from __future__ import annotations

from model.parameters.weights import Weights, public_weights

__all__ = ['weights_table']


def _line(row: Weights) -> str:
    options = ' '.join(f'`{key}={value!r}`' for key, value in row.options.items() if key != 'classes')
    accuracy = '' if row.accuracy is None else f'{row.accuracy:.2f} %'
    cells = (
        row.source,
        f'`{row.model}`',
        f'[`{row.tag}`]({row.addresses[0].url})',
        f'`{row.network}` {options}'.strip(),
        accuracy,
        str(row.preprocessing['size']),
        row.licence or 'not stated',
    )
    return f'| {" | ".join(cells)} |'


def weights_table() -> str:
    """Return a Markdown table with a line for each file of public weights."""
    head = '| source | model there | training | network here | top-1 | size | licence |'
    return '\n'.join([head, '| --- | --- | --- | --- | ---: | ---: | --- |', *map(_line, public_weights())])
