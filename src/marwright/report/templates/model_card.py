"""What a model is."""

from __future__ import annotations

MODEL = """\
{% macro names(stages) %}
{% for name in stages %}
<code>{{ name }}</code>{{ ', ' if not loop.last }}
{%- endfor %}
{% endmacro %}
<dl class="pairs">
<dt>Model</dt><dd>{{ recipe.name }} {{ recipe.version }}</dd>
<dt>Intended use</dt><dd>{{ recipe.description or 'The recipe does not describe it.' }}</dd>
<dt>Task</dt><dd>{{ report.task }}
  {%- if report.data.labels %} into {{ report.data.labels | length | count }} classes
  {%- elif report.predicted %} of <code>{{ report.predicted.target }}</code>{% endif %}</dd>
<dt>Network</dt><dd><code>{{ model.factory }}</code>,
  {{ model.parameters | plural('parameter') }}</dd>
<dt>Trained</dt><dd>
  {%- if model.trained == model.parameters %}all of it{% else -%}
  {{ model.trained | plural('parameter') }},
  {{ (100 * model.trained / model.parameters) | number(3) }} %{% endif %}</dd>
<dt>Stages</dt><dd>{{ names(trained) }}
  {%- if frozen %}; as they were: {{ names(frozen) }}{% endif %}</dd>
<dt>Started from</dt><dd>{{ report.start.source if report.start else 'random weights' }}</dd>
<dt>Data</dt><dd><code>{{ report.data.dataset }}</code>:
{% for name, many in splits %}
{{ name }} {{ many | count }}{{ ',' if not loop.last }}
{% endfor %}
</dd>
{% for name, value, baseline in metrics %}
<dt>{{ name }}</dt><dd>{{ value | number(4) }}
  {%- if baseline is not none %} (baseline {{ baseline | number(4) }}){% endif %}</dd>
{% endfor %}
</dl>
<h3>Limits</h3>
<ul class="sentences">
{% for limit in limits %}
<li>{{ limit }}</li>
{% endfor %}
</ul>
"""
