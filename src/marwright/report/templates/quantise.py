"""Of what quantising cost."""

from __future__ import annotations

QUANTISE = """\
{% macro layers(caption, some) %}
<div class="wide" tabindex="0" role="region" aria-label="What each layer costs">
<table>
<caption>{{ caption }}</caption>
<thead><tr>
<th scope="col">Layer</th><th scope="col">Operator</th>
<th scope="col" class="number">Error alone</th><th scope="col">Precision</th>
</tr></thead>
<tbody>
{% for cost, error, kept in some %}
<tr>
<th scope="row"><code>{{ cost.layer }}</code></th><td>{{ cost.op }}</td>
<td class="number">{% if cost.together > 1 %}≈ {% endif %}{{ error }}</td>
<td>{% if kept %}<span class="badge">float32</span>{% else %}int8{% endif %}</td>
</tr>
{% endfor %}
</tbody>
</table>
</div>
{% endmacro %}
{{ verdict }}
<dl class="tiles">
<div><dt>Drop of {{ report.metric }}</dt>
<dd class="value{{ ' bad' if not report.ok }}">{{ drop }}</dd>
<dd>points, of {{ report.limit | number }} allowed; in float32 it is
  {{ report.float32 | number(5) }}</dd></div>
<div><dt>Size</dt>
<dd class="value">{{ report.int8_bytes | size }}</dd>
<dd>{{ (100 * report.int8_bytes / report.float32_bytes) | number(2) }} % of the float32 file's
  {{ report.float32_bytes | size }}</dd></div>
<div><dt>Layers in int8</dt>
<dd class="value">{{ (report.layers - report.excluded | length) | count }} of
  {{ report.layers | count }}</dd>
<dd>of those that can be</dd></div>
<div><dt>Calibrated on</dt>
<dd class="value">{{ report.calibration_samples | count }}</dd>
<dd>training samples, by the least and the greatest value of each tensor</dd></div>
</dl>
{% if attempts | length > 1 %}
<h3>Layers left in float32</h3>
<p class="lead">What was tried, in its order: the costliest layers are left in float32 first.</p>
<div class="wide" tabindex="0" role="region" aria-label="What was tried">
<table>
<thead><tr>
<th scope="col">Result</th><th scope="col" class="number">In float32</th>
<th scope="col" class="number">Drop, points</th>
</tr></thead>
<tbody>
{% for attempt, drop, ok in attempts %}
<tr>
<td class="{{ 'good' if ok else 'bad' }}">{{ '✓ allowed' if ok else '✗ too much' }}</td>
<td class="number">{{ attempt.excluded | count }}</td><td class="number">{{ drop }}</td>
</tr>
{% endfor %}
</tbody>
</table>
</div>
{% endif %}
{% if rows %}
<h3>What each layer costs</h3>
<p class="lead">The error of the outputs with that layer alone in int8: root mean square over that
  by which outputs vary.
  {%- if others %} {{ others | plural('layer') }} were measured with their neighbours: of each
  there is its share (≈).
  {%- endif %}</p>
{{ layers('the costliest first', rows[:in_sight]) }}
{% if rows | length > in_sight %}
<details><summary>{{ (rows | length - in_sight) | plural('more layer') }}</summary>
{{ layers('those that cost less', rows[in_sight:]) }}
</details>
{% endif %}
{% endif %}
"""
