"""The index of all models."""

from __future__ import annotations

INDEX = """\
<div class="wide" tabindex="0" role="region" aria-label="Models">
<table>
<thead><tr>
<th scope="col">Model</th><th scope="col">Version</th><th scope="col">Task</th>
<th scope="col">Metric</th><th scope="col">Exports</th>
<th scope="col" class="number">Worst error ÷ limit</th><th scope="col">State</th>
</tr></thead>
<tbody>
{% for entry, link in entries %}
<tr>
<th scope="row">
  {%- if link %}<a href="{{ link }}">{{ entry.name }}</a>
  {%- if entry.page_is_older %} (the page of another checkpoint){% endif %}
  {%- else %}{{ entry.name }}{% endif -%}
</th>
<td>{{ entry.version }}</td><td>{{ entry.task }}</td><td>{{ entry.metric or '–' }}</td>
{% if entry.parity is none %}
<td>not compared</td>
{% elif entry.failed == 'parity' %}
<td class="bad">✗ do not agree</td>
{% elif entry.exports_are_older %}
<td>agreed (another checkpoint)</td>
{% else %}
<td>agree</td>
{% endif %}
<td class="number">{{ entry.parity.worst_ratio | measured if entry.parity else '–' }}</td>
{% if entry.failed %}
<td class="bad">✗ fails in {{ entry.failed }}</td>
{% else %}
<td>{{ entry.stale or 'current' }}</td>
{% endif %}
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
