"""Attention units: blocks ``(x, *carry) -> (x, *carry)`` on a block's residual branch."""
