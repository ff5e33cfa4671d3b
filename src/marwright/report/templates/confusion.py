"""A confusion matrix, and the most confused pairs."""

from __future__ import annotations

CONFUSION = """\
{% macro pair_rows(caption, some) %}
<div class="wide" tabindex="0" role="region" aria-label="Confused classes">
<table>
<caption>{{ caption }}</caption>
<thead><tr>
<th scope="col">Truth</th><th scope="col">Answer</th><th scope="col" class="number">Samples</th>
<th scope="col" class="number">Of</th>
</tr></thead>
<tbody>
{% for pair in some %}
<tr><th scope="row">{{ pair.truth }}</th><td>{{ pair.answer }}</td>
<td class="number">{{ pair.many | count }}</td><td class="number">{{ pair.of | count }}</td></tr>
{% endfor %}
</tbody>
</table>
</div>
{% endmacro %}
<h3>Confusion matrix</h3>
{% if rows %}
<p class="lead">A row for each true class, a column for each answer:
  <span class="key first"></span>right, <span class="key bad"></span>wrong. The stronger the colour,
  the larger the part of the row.
  {%- if not counted %} Point at a cell for its count; the table below has those that are
  confused.{% endif %}</p>
<div class="wide" tabindex="0" role="region" aria-label="Confusion matrix">
<table class="matrix{{ ' dense' if not counted }}{{ ' tall' if tall }}">
<thead><tr><td></td>
{% for label in labels %}
<th scope="col" title="{{ label }}"><span>{{ label }}</span></th>
{% endfor %}
</tr></thead>
<tbody>
{% for label, cells in rows %}
<tr><th scope="row" title="{{ label }}"><span>{{ label }}</span></th>
{% for cell in cells %}
{% if cell.many %}
<td class="{{ 'right' if cell.right else 'wrong' }}" style="--shade:{{ cell.shade }}%"
 {%- if not counted %} title="{{ label }} as {{ labels[loop.index0] }}: {{ cell.many | count }}"
 {%- endif %}><span class="{{ 'unseen' if not counted }}">{{ cell.many | count }}</span></td>
{% else %}
<td></td>
{% endif %}
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
{% else %}
<p class="lead">With {{ labels | length | count }} classes, a picture of the whole matrix could not
  be read; below are the pairs.</p>
{% endif %}
{% if pairs %}
<h3>Most confused</h3>
{{ pair_rows('the most frequent first', pairs[:in_sight]) }}
{% if pairs | length > in_sight %}
<details><summary>{{ (pairs | length - in_sight) | plural('more pair') }}</summary>
{{ pair_rows('those that are rarer', pairs[in_sight:]) }}
{% if left_out %}
<p class="note">{{ left_out | plural('pair') }} that are as rare or rarer are left out.</p>
{% endif %}
</details>
{% endif %}
{% else %}
<p>No two classes were confused.</p>
{% endif %}
"""
