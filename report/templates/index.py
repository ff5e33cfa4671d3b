"""The index of all models."""

from __future__ import annotations

INDEX = """\
<div class="wide" tabindex="0" role="region" aria-label="Models">
<table>
<thead><tr>
<th scope="col">Model</th><th scope="col">Version</th><th scope="col">Task</th>
<th scope="col">Metric</th><th scope="col">Gate</th>
<th scope="col" class="number">Worst ratio</th><th scope="col">State</th>
</tr></thead>
<tbody>
{% for entry, link in entries %}
<tr>
<th scope="row">
  {%- if link %}<a href="{{ link }}">{{ entry.name }}</a>{% else %}{{ entry.name }}{% endif -%}
</th>
<td>{{ entry.version }}</td><td>{{ entry.task }}</td><td>{{ entry.metric or '–' }}</td>
{% if entry.failed %}
<td class="bad">✗ fails in {{ entry.failed }}</td>
{% elif entry.parity is none %}
<td>not compared</td>
{% else %}
<td class="good">✓ passes</td>
{% endif %}
<td class="number">{{ entry.parity.worst_ratio | measured if entry.parity else '–' }}</td>
<td>{{ entry.stale or 'current' }}</td>
</tr>
{% else %}
{% if not unreadable %}<tr><td colspan="7">There is no model.</td></tr>{% endif %}
{% endfor %}
{% for name, error in unreadable.items() %}
<tr><th scope="row">{{ name }}</th><td class="bad text" colspan="6">✗ {{ error }}</td></tr>
{% endfor %}
</tbody>
</table>
</div>
"""
