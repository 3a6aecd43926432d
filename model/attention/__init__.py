"""Attention units: blocks ``(x, *carry) -> (x, *carry)`` in a residual block, alone, deeply connected or shared."""

from __future__ import annotations

from model.attention.factory import ATTENTIONS, CONNECTIONS, attention_factory, attention_options

__all__ = ['ATTENTIONS', 'CONNECTIONS', 'attention_factory', 'attention_options']
