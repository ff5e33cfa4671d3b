"""The worst inputs of a parity report."""

from __future__ import annotations

WORST = """\
{% macro value_rows(pairs) %}
<table><tbody>
{% for name, value in pairs %}
<tr><th scope="row">{{ name }}</th><td class="number">{{ value | number(5) }}</td></tr>
{% endfor %}
</tbody></table>
{% endmacro %}
<p class="lead">The inputs with
  {%- if strange %} NaN or ∞ where the checkpoint has a number or the other way round, and with
  {%- endif %} the largest error for their limit
  {%- if quantised %}; of int8, those with another label where the checkpoint is surest{% endif %}.
  <span class="key first"></span>float64 reference, <span class="key second"></span>backend.</p>
<div class="cards">
{% for worst, facts, picture, bars in cards %}
<article class="card">
<h3>{{ worst.name }}</h3>
<p class="note">{{ worst.kind }}; {{ backends[worst.backend] }} at batch {{ worst.batch }}:
{% for fact, bad in facts %}
<span{% if bad %} class="bad"{% endif %}>{{ fact }}</span>{{ ',' if not loop.last }}
{% endfor %}
</p>
{% if worst.text %}
<blockquote><bdi>{{ worst.text }}</bdi></blockquote>
{% endif %}
{% if picture %}
<img{% if picture.pixels %} class="pixels"{% endif %}
  width="{{ picture.width }}" height="{{ picture.height }}"
  src="data:image/png;base64,{{ picture.png }}" alt="Picture of {{ worst.name }}">
{% elif worst.png %}
<p class="note">Its picture is not a PNG and cannot be shown.</p>
{% endif %}
{% if bars %}
<div class="wide" tabindex="0" role="region" aria-label="Outputs">
<table>
<thead><tr>
<th scope="col">{{ output }}</th><th scope="col" class="number">reference</th>
<th scope="col" class="number">difference</th><td></td>
</tr></thead>
<tbody>
{% for bar in bars %}
<tr>
<th scope="row">{{ bar.label }}</th>
<td class="number">{{ bar.reference | number(4) if bar.reference is not none else no_number }}</td>
<td class="number{{ ' bad' if worst.strange and bar.strange }}">{{ bar.difference }}</td>
<td class="bars" aria-hidden="true">
{%- for place in bar.bars -%}
{%- if place -%}
<span class="key {{ loop.cycle('first', 'second') }}"
  style="margin-left:{{ place[0] }}%;width:{{ place[1] }}%"></span>
{%- else -%}
<span></span>
{%- endif -%}
{%- endfor -%}
</td>
</tr>
{% endfor %}
</tbody>
</table>
</div>
{% endif %}
{% if worst.values %}
{% set pairs = worst.values.items() | list %}
{{ value_rows(pairs[:in_sight]) }}
{% if pairs | length > in_sight %}
<details><summary>{{ (pairs | length - in_sight) | plural('more value') }}</summary>
{{ value_rows(pairs[in_sight:]) }}
</details>
{% endif %}
{% endif %}
</article>
{% endfor %}
</div>
"""
