"""Of the handler's answers."""

from __future__ import annotations

ANSWERS = """\
{{ verdict }}
{% if report.problems %}
<h3>What is wrong</h3>
<ol class="problems">
{% for problem in report.problems %}
<li>{{ problem }}</li>
{% endfor %}
</ol>
{% endif %}
{% if report.absent %}
<h3>Not checked</h3>
<ul>
{% for text in report.absent %}
<li>{{ text }}</li>
{% endfor %}
</ul>
{% endif %}
{% include "notes" %}
"""
