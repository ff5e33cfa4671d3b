"""The frame of a page."""

from __future__ import annotations

# The policy lets a browser load nothing and run nothing, whatever a report says.
PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{{ title }}</title>
<style>
{{ css }}</style>
</head>
<body>
<header>
<h1>{{ title }}</h1>
<p>{{ subtitle }}</p>
{% if sections | length > 1 %}
<nav aria-label="Sections"><ul>
{% for section in sections %}
<li><a href="#{{ section.anchor }}">{{ section.title }}</a></li>
{% endfor %}
</ul></nav>
{% endif %}
</header>
<main>
{% for section in sections %}
<section id="{{ section.anchor }}" aria-labelledby="{{ section.anchor }}-title">
<h2 id="{{ section.anchor }}-title">{{ section.title }}</h2>
{{ section.body }}
</section>
{% endfor %}
</main>
</body>
</html>
"""

VERDICT = """\
<div class="box {{ 'good' if ok else 'bad' }}">
<p class="word"><span aria-hidden="true">{{ '✓' if ok else '✗' }}</span>
  {{ word }}</p>
<p>{{ text }}</p>
</div>
"""

# What a report says beside its verdict.
NOTES = """\
{% if report.notes %}
<h3>Notes</h3>
<ul>
{% for note in report.notes %}
<li>{{ note }}</li>
{% endfor %}
</ul>
{% endif %}
"""
