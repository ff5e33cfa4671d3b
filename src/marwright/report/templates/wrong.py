"""The test samples with the largest losses."""

from __future__ import annotations

PICTURES = """\
{% macro shown(cards) %}
<div class="cards small">
{% for one, picture, text in cards %}
<article class="card">
<div>
{% if picture %}
<img{% if picture.pixels %} class="pixels"{% endif %}
  width="{{ picture.width }}" height="{{ picture.height }}"
  src="data:image/png;base64,{{ picture.png }}" alt="Picture of {{ one.name }}">
{% elif one.picture %}
<p class="note">Its picture is not a PNG and cannot be shown.</p>
{% endif %}
{% if text %}
<p>{{ text }}</p>
{% endif %}
</div>
<div>
<dl class="pairs">
<dt>Truth</dt><dd><strong>{{ one.truth }}</strong></dd>
<dt>Answer</dt><dd class="bad">{{ one.answer }}</dd>
{% if one.probability is not none %}
<dt>Probability</dt><dd>{{ one.probability | number }}</dd>
{% endif %}
<dt>Loss</dt><dd>{{ one.loss | number }}</dd>
</dl>
<p class="note">{{ one.name }}</p>
</div>
</article>
{% endfor %}
</div>
{% endmacro %}
<p class="lead">{{ lead }}</p>
{{ shown(cards[:in_sight]) }}
{% if cards | length > in_sight %}
<details><summary>{{ (cards | length - in_sight) | plural('more sample') }}</summary>
{{ shown(cards[in_sight:]) }}
</details>
{% endif %}
"""

TABLE = """\
{% macro shown(rows) %}
<div class="wide" tabindex="0" role="region" aria-label="Most wrong">
<table>
<thead><tr>
<th scope="col">Name</th>
{% if not has_difference %}
<th scope="col">Truth</th><th scope="col">Answer</th>
{% else %}
<th scope="col" class="number">Truth</th><th scope="col" class="number">Answer</th>
<th scope="col" class="number">Difference</th>
{% endif %}
{% if has_probability %}
<th scope="col" class="number">Probability</th>
{% endif %}
<th scope="col" class="number">Loss</th>
{% for column in columns %}
<th scope="col"{% if column.numeric %} class="number"{% endif %}>{{ column.name }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for one, values in rows %}
<tr>
<th scope="row">{{ one.name }}</th>
{% if not has_difference %}
<td>{{ one.truth }}</td><td>{{ one.answer }}</td>
{% else %}
<td class="number">{{ one.truth }}</td><td class="number">{{ one.answer }}</td>
<td class="number">{{ one.difference | number if one.difference is not none else '–' }}</td>
{% endif %}
{% if has_probability %}
<td class="number">{{ one.probability | number if one.probability is not none else '–' }}</td>
{% endif %}
<td class="number">{{ one.loss | number }}</td>
{% for value in values %}
{% if columns[loop.index0].numeric %}
<td class="number">{{ value | number(5) if value is not none else '–' }}</td>
{% else %}
<td{% if columns | length == 1 %} class="text"{% endif %}>
  {{- value if value is not none else '–' }}</td>
{% endif %}
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
{% endmacro %}
<p class="lead">{{ lead }}</p>
{{ shown(rows[:in_sight]) }}
{% if rows | length > in_sight %}
<details><summary>{{ (rows | length - in_sight) | plural('more sample') }}</summary>
{{ shown(rows[in_sight:]) }}
</details>
{% endif %}
"""
