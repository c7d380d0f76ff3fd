"""Are gradients masked? The rules, the attacks that probe a network, and what they found.

The attacks themselves are in `attacks`; how a verdict is written down is in `reports.masking`.
"""
