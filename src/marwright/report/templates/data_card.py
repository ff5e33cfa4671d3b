"""What a model was trained on."""

from __future__ import annotations

DATA = """\
{% set colours = ['first', 'second', 'third'] %}
{% macro class_rows(caption, some) %}
<div class="wide" tabindex="0" role="region" aria-label="Classes: {{ caption }}">
<table>
<caption>{{ caption }}</caption>
<thead><tr>
<th scope="col">Class</th><td></td>
{% for name, _, _ in splits %}
<th scope="col" class="number"><span class="key {{ colours[loop.index0 % 3] }}"></span>
  {{- name }}</th>
{% endfor %}
<th scope="col" class="number">All</th>
</tr></thead>
<tbody>
{% for row in some %}
{% if row is none %}
<tr><td colspan="{{ splits | length + 3 }}">{{ between | count }} in between</td></tr>
{% else %}
<tr>
<th scope="row">{{ row.label }}</th>
<td class="bars" aria-hidden="true"><div class="stack">
{%- for width in row.widths -%}
<span class="key {{ colours[loop.index0 % 3] }}" style="width:{{ width }}%"></span>
{%- endfor -%}
</div></td>
{% for many in row.counts %}
<td class="number{{ ' bad' if not many }}">{{ many | count }}</td>
{% endfor %}
<td class="number">{{ row.total | count }}</td>
</tr>
{% endif %}
{% endfor %}
</tbody>
</table>
</div>
{% endmacro %}
{% macro fault_rows(some) %}
<ul>
{% for fault in some %}
<li><strong>{{ fault.where }}</strong>: {{ fault.what }}</li>
{% endfor %}
</ul>
{% endmacro %}
{% macro pair_rows(some) %}
<div class="wide" tabindex="0" role="region" aria-label="Held-out samples that training knows">
<table>
<thead><tr>
<th scope="col">Held out</th><th scope="col">Of training</th><th scope="col">Labels</th>
</tr></thead>
<tbody>
{% for pair in some %}
<tr><th scope="row">{{ pair.held_out }}</th><td>{{ pair.train }}</td>
{% if not pair.labels %}
<td>–</td>
{% elif pair.labels[0] == pair.labels[1] %}
<td>both {{ pair.labels[0] }}</td>
{% else %}
<td class="bad">{{ pair.labels[0] }} and {{ pair.labels[1] }}</td>
{% endif %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
{% endmacro %}
<p>Data set <code>{{ data.dataset }}</code>: {{ total | plural('sample') }}
  {%- if data.labels %} of {{ data.labels | length | count }} classes{% endif %}.
  {%- if imbalance %} {{ imbalance }}{% endif %}</p>
<div class="wide" tabindex="0" role="region" aria-label="Splits">
<table>
<caption>samples{{ ', and the target' if data.target }}, by split</caption>
<thead><tr>
<th scope="col">Split</th><th scope="col" class="number">Samples</th>
<th scope="col" class="number">Part</th>
{% if data.target %}
<th scope="col" class="number">Least</th><th scope="col" class="number">Mean</th>
<th scope="col" class="number">Largest</th>
{% endif %}
</tr></thead>
<tbody>
{% for name, many, target in splits %}
<tr><th scope="row">{{ name }}</th><td class="number">{{ many | count }}</td>
<td class="number">{{ (100 * many / total) | number(3) if total else '–' }} %</td>
{% if data.target %}
{% for value in target or ('–', '–', '–') %}
<td class="number">{{ value | number(4) if value is number else value }}</td>
{% endfor %}
{% endif %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
{% if classes %}
<h3>Classes</h3>
{% if ends %}
{{ class_rows('the largest and the smallest', ends) }}
<details><summary>All {{ classes | length | count }} classes</summary>
{{ class_rows('in the order of the labels', classes) }}
</details>
{% else %}
{{ class_rows('in the order of the labels', classes) }}
{% endif %}
{% endif %}
<h3>Faults</h3>
{% if data.faults %}
<p>{{ data.faults | length | plural('fault') }}: what has one was left out.</p>
{{ fault_rows(data.faults[:faults]) }}
{% if data.faults | length > faults %}
<details><summary>{{ (data.faults | length - faults) | plural('more fault') }}</summary>
{{ fault_rows(data.faults[faults:]) }}
</details>
{% endif %}
{% else %}
<p>None was found.</p>
{% endif %}
<h3>Duplicates</h3>
{% set found = data.duplicates %}
<dl class="tiles">
<div><dt>Exact copies</dt>
<dd class="value">{{ found.exact | count }}</dd>
<dd>beyond the first of each sample</dd></div>
<div><dt>Conflicting</dt>
<dd class="value{{ ' bad' if found.conflicting }}">{{ found.conflicting | count }}</dd>
<dd>samples that occur with different targets</dd></div>
<div><dt>Leaked</dt>
<dd class="value{{ ' bad' if found.leaked }}">{{ found.leaked | count }}</dd>
<dd>held-out samples that are in the training split too</dd></div>
{% if found.before %}
<div><dt>Learned before</dt>
<dd class="value bad">{{ found.before | count }}</dd>
<dd>held-out samples that the model which it starts from has learned of</dd></div>
{% endif %}
<div><dt>Near copies</dt>
{% if found.compared %}
<dd class="value{{ ' bad' if found.near }}">{{ found.near | count }}</dd>
<dd>of {{ found.compared | plural('held-out sample') }} compared with training</dd></div>
{% else %}
<dd class="value">–</dd>
<dd>no held-out sample could be compared with training</dd></div>
{% endif %}
</dl>
{% if found.pairs %}
<h3>Held-out samples that training knows</h3>
{{ pair_rows(found.pairs[:pairs]) }}
{% if found.pairs | length > pairs %}
<details><summary>{{ (found.pairs | length - pairs) | plural('more pair') }}</summary>
{{ pair_rows(found.pairs[pairs:]) }}
</details>
{% endif %}
{% if found.pairs | length < found.leaked + found.near %}
<p class="note">{{ (found.leaked + found.near - found.pairs | length) | plural('pair') }} besides
  are not named.</p>
{% endif %}
{% endif %}
"""
