"""Measuring a network on what it has not learnt from, beside the figures of the paper (docs/evaluation.md)."""
