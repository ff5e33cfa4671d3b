"""A study: the recipe beside its variants."""

from __future__ import annotations

STUDY = """\
{% if not current %}
<p class="box bad">The recipe, its code, its data or the weights that it starts from have changed
  since: <code>make study</code> measures it anew.</p>
{% endif %}
<p>Each variant was trained with {{ seeds | plural('seed') }} and measured on the same
  {{ samples | plural('test sample') }}.
  {%- if processes > 1 %} One process trained each of them, where the build has
  {{ processes }}.{% endif %}</p>
<div class="plots"><figure>{{ plot }}</figure></div>
<div class="wide" tabindex="0" role="region" aria-label="Variants">
<table>
<thead><tr>
<th scope="col">Variant</th><th scope="col" class="number">{{ metric }}, mean</th>
<th scope="col" class="number">deviation</th><th scope="col" class="number">least</th>
<th scope="col" class="number">most</th><th scope="col" class="number">gap to the recipe</th>
<th scope="col" class="number">95 % of the gap</th><th scope="col">What it changes</th>
</tr></thead>
<tbody>
{% for row in rows %}
<tr>
<th scope="row">{{ row.name }}</th><td class="number">{{ '%.4f' % row.mean }}</td>
<td class="number">{{ '%.4f' % row.deviation }}</td>
<td class="number">{{ '%.4f' % (row.values | min) }}</td>
<td class="number">{{ '%.4f' % (row.values | max) }}</td>
<td class="number">{{ '–' if loop.first else '%+.4f' % row.gap }}</td>
<td class="number">
  {%- if loop.first or row.interval is none %}–{% else -%}
  {{ '%+.4f' % row.interval[0] }} to {{ '%+.4f' % row.interval[1] }}{% endif %}</td>
<td>{{ row.settings or 'nothing' }}</td>
</tr>
{% endfor %}
</tbody>
</table>
</div>
<p class="lead">Gaps are by seed; their interval is Student's t over the seeds, and says nothing of
  another test split.</p>
"""
