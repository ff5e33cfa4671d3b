"""The page of the learning-rate finder."""

from __future__ import annotations

RATES = """\
<p>The rate grew from batch to batch, {{ found.rates | length }} of them, until the loss was lost.
Begin with <strong>{{ '%.1e' % found.suggested }}</strong>: a tenth of the rate at which the loss
was least. It fell fastest at {{ '%.1e' % found.steepest }}; the recipe says
{{ '%.1e' % declared }} (dotted).</p>
<figure>{{ plot }}</figure>
"""
