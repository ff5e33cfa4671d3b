"""How a model does on the test split."""

from __future__ import annotations

CLASSIFIED = """\
{% macro class_rows(caption, some) %}
<div class="wide" tabindex="0" role="region" aria-label="Classes: {{ caption }}">
<table>
<caption>{{ caption }}</caption>
<thead><tr>
<th scope="col">Class</th><th scope="col" class="number">Samples</th>
<th scope="col" class="number">Precision</th><th scope="col" class="number">Recall</th>
<th scope="col" class="number">95 % of the recall</th><th scope="col" class="number">F1</th>
<td></td>
</tr></thead>
<tbody>
{% for row in some %}
<tr>
<th scope="row">{{ row.label }}</th><td class="number">{{ row.samples | count }}</td>
<td class="number">{{ row.precision | number if row.precision is not none else '–' }}</td>
{% if row.samples %}
<td class="number">{{ row.recall | number }}</td>
<td class="number">{{ row.interval[0] | number }} to {{ row.interval[1] | number }}</td>
<td class="number">{{ row.f1 | number }}</td>
<td class="bars" aria-hidden="true"><span class="key first" style="width:
  {{- (100 * row.f1) | round(1) }}%"></span></td>
{% else %}
<td class="number">–</td><td class="number">–</td><td class="number">–</td><td></td>
{% endif %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
{% endmacro %}
<p>{{ of | plural('sample') }}, of which {{ right | count }} got the right label
  {%- if of > right %} and {{ (of - right) | count }} a wrong one{% endif %}.
  {%- if baseline %} {{ baseline }}{% endif %}</p>
{{ confusion }}
<h3>Classes</h3>
{% if worst %}
{{ class_rows('those with the lowest F1', worst) }}
<details><summary>All {{ classes | length | count }} classes</summary>
{{ class_rows('in the order of the labels', classes) }}
</details>
{% else %}
{{ class_rows('in the order of the labels', classes) }}
{% endif %}
{% if bins %}
<h3>Calibration</h3>
<p class="lead">Of answers with a confidence of 0.8, four of five should be right: bars should end
  on the line.
  {%- if error >= 0 %} The expected calibration error, the mean gap, is
  <strong>{{ error | number }}</strong>.{% endif %}</p>
<div class="plots">
<figure>{{ reliability }}<figcaption><span class="key bad"></span>gap up to the line where
  answers are too sure, <span class="key second"></span>gap above it where they are not sure
  enough. Thin lines are 95 % intervals: a gap within one may be
  chance.</figcaption></figure>
<div class="wide" tabindex="0" role="region" aria-label="Calibration in numbers">
<table>
<caption>by confidence</caption>
<thead><tr>
<th scope="col" class="number">Confidence</th><th scope="col" class="number">Accuracy</th>
<th scope="col" class="number">Gap</th><th scope="col" class="number">Samples</th>
</tr></thead>
<tbody>
{% for bin in bins %}
<tr>
<th scope="row" class="number">{{ bin.confidence | number }}</th>
<td class="number">{{ bin.accuracy | number }}</td>
<td class="number">{{ (bin.accuracy - bin.confidence) | round(3) | number(2) }}</td>
<td class="number">{{ bin.samples | count }}</td>
</tr>
{% endfor %}
</tbody>
</table>
</div>
</div>
{% endif %}
"""

PREDICTED = """\
<p>{{ samples | plural('sample') }}; the target is <code>{{ target }}</code>.
  {%- if meaning %} {{ meaning }}{% endif %}
  {%- if baseline %} {{ baseline }}{% endif %}</p>
<div class="wide" tabindex="0" role="region" aria-label="Metrics on the test split">
<table>
<thead><tr>
<th scope="col">Metric</th><th scope="col" class="number">Value</th>
<th scope="col" class="number">Baseline</th>
<th scope="col">What it says</th>
</tr></thead>
<tbody>
{% for name, about, value, blind in metrics %}
<tr><th scope="row">{{ name }}</th><td class="number">{{ value | number(4) }}</td>
<td class="number">{{ blind | number(4) if blind is not none else '–' }}</td>
<td class="text">{{ about }}</td></tr>
{% endfor %}
</tbody>
</table>
</div>
<h3>Answers</h3>
<div class="plots">
<figure>{{ against }}<figcaption><strong>Answer against target</strong>:
  {{ pairs | plural('sample') }}
  {%- if pairs < samples %} of {{ samples | count }}{% endif %}; right ones lie on the line.
</figcaption></figure>
<figure>{{ residuals }}<figcaption><strong>Answer less target</strong>: {{ words }}.
</figcaption></figure>
</div>
"""
