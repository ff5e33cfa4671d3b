"""The sections of a parity report."""

from __future__ import annotations

VERDICT = """\
{{ verdict }}
{% if looser or report.tolerance.reason %}
<div class="box{{ ' warn' if looser }}">
<h3>{{ 'The tolerance is looser than the default' if looser else 'About the tolerance' }}</h3>
{% if report.tolerance.reason %}
<p>{{ report.tolerance.reason }}</p>
{% endif %}
<p class="note">k = {{ report.tolerance.k | number }} ({{ default_k | number }} by default),
  floor = {{ report.tolerance.floor | number }} ({{ default_floor | number }} by default)
  {%- if report.tolerance.reason %}; the reason is the recipe's{% endif %}.</p>
</div>
{% endif %}
{% if report.problems %}
<h3>What is wrong</h3>
<ol class="problems">
{% for problem in report.problems %}
<li><span class="badge bad">{{ problem.check }}</span>
<span class="badge">{{ backends[problem.backend] }}</span>
<span class="note">{{ checks[problem.check] }}</span>
<p>{{ problem.text }}</p></li>
{% endfor %}
</ol>
{% endif %}
{% if report.divergence %}
{% set node = report.divergence %}
<div class="box bad">
<h3>First diverging node: <code>{{ node.node }}</code></h3>
<p>In {{ backends[node.backend] }}
  {%- if node.after >= 0 %}: the relative error is {{ node.before | measured }} before it and
  <strong>{{ node.after | measured }}</strong> after it{% endif %}.
  {%- if has_layers %} <a href="#parity-layers">Error by layer</a>{% endif %}</p>
<dl class="pairs">
<dt>Operator</dt><dd><code>{{ node.op }}</code></dd>
<dt>Inputs</dt><dd>{{ node.inputs | map('shape') | join('; ') or 'none' }}</dd>
<dt>Output</dt><dd>{{ node.output | shape }}</dd>
<dt>Found by</dt><dd>{{ node.how }}</dd>
</dl>
</div>
{% endif %}
{% include "notes" %}
"""

FIGURES = """\
<dl class="tiles">
<div><dt>Worst ratio</dt>
<dd class="value{{ ' bad' if summary.worst_ratio > 1 }}">{{ summary.worst_ratio | measured }}</dd>
<dd>error ÷ limit, over all inputs; 1 is the most that passes</dd></div>
<div><dt>Largest held-out error</dt>
<dd class="value">{{ summary.max_error | measured }}</dd>
<dd>of {{ report.limit | measured }} allowed</dd></div>
<div><dt>Tolerance</dt>
<dd class="value">k = {{ report.tolerance.k | number }}</dd>
<dd>times the error of eager torch, plus {{ report.tolerance.floor | number }} of the output's
  size</dd></div>
<div><dt>Signal ÷ noise</dt>
<dd class="value">
  {{- (report.signal / report.noise) | number if report.noise > 0 else '–' }}</dd>
<dd>outputs go up to {{ report.size | measured }} and vary by {{ report.signal | measured }};
  eager torch is off by {{ report.noise | measured }}</dd></div>
<div><dt>Inputs</dt>
<dd class="value">{{ summary.samples | count }}</dd>
<dd>at batch {{ summary.batches | join(', ') or '–' }}; a row takes
  {{ report.flops | number }} FLOPs</dd></div>
{% if report.task == 'classification' %}
<div><dt>Labels flipped</dt>
<dd class="value{{ ' bad' if flips > forgiven }}">{{ flips | count }}</dd>
<dd>over all cases{{ ' but those of int8' if not all_limited }}; {{ forgiven | count }} forgiven, as
  the margin is below the error</dd></div>
{% endif %}
{% if report.search %}
{% set search = report.search %}
<div><dt>Worst-case search</dt>
<dd class="value">{{ search.first_ratio | measured }} → {{ search.worst_ratio | measured }}</dd>
<dd>times what float32 errs on real data, from {{ search.starts | plural('start') }} of
  {{ search.steps | plural('step') }} ({{ search.evaluated | plural('input') }} tried, seed
  {{ search.seed }})
  {%- if report.task == 'classification' %}; {{ search.flips | plural('flip') }}{% endif -%}
</dd></div>
{% endif %}
</dl>
"""

AGREEMENT = """\
<p class="lead">The same held-out rows, answered by each backend and by the checkpoint. The drop is
  the checkpoint's metric less the backend's, with 95 % of its paired bootstrap.</p>
<div class="wide" tabindex="0" role="region" aria-label="Task agreement">
<table>
<thead><tr>
<th scope="col">Backend</th><th scope="col" class="number">Rows</th><th scope="col">Metric</th>
<th scope="col" class="number">Checkpoint</th><th scope="col" class="number">Backend</th>
<th scope="col" class="number">Drop</th><th scope="col" class="number">95 %</th>
{% if report.task == 'classification' %}
<th scope="col" class="number">Flips</th><th scope="col" class="number">Forgiven</th>
<th scope="col" class="number">KL, mean</th><th scope="col" class="number">KL, largest</th>
{% else %}
<th scope="col" class="number">Largest ÷ spread</th>
{% endif %}
</tr></thead>
<tbody>
{% for row in report.agreement %}
<tr>
<th scope="row">{{ backends[row.backend] }}</th><td class="number">{{ row.samples | count }}</td>
<td>{{ row.metric }}</td><td class="number">{{ row.reference | number(5) }}</td>
<td class="number">{{ row.measured | number(5) }}</td>
<td class="number">{{ row.drop | number }}</td>
<td class="number">{{ row.interval[0] | number }} to {{ row.interval[1] | number }}</td>
{% if report.task == 'classification' %}
<td class="number{{ ' bad' if row.flips > row.forgiven and row.backend != 'int8' }}">
  {{- row.flips | count }}</td>
<td class="number">{{ row.forgiven | count }}</td>
<td class="number">{{ row.kl_mean | number if row.kl_mean is not none else '–' }}</td>
<td class="number">{{ row.kl_max | number if row.kl_max is not none else '–' }}</td>
{% else %}
<td class="number">{{ row.max_relative | number if row.max_relative is not none else '–' }}</td>
{% endif %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
"""

CASES = """\
{% macro rows(backend, caption, some) %}
<div class="wide" tabindex="0" role="region" aria-label="Cases of {{ backend }}">
<table>
<caption>{{ caption }}</caption>
<thead><tr>
<th scope="col">Result</th><th scope="col">Inputs</th><th scope="col" class="number">Batch</th>
<th scope="col" class="number">Ratio</th><th scope="col" class="number">Batch ratio</th>
<th scope="col" class="number">Max error</th>
{% if has_labels %}
<th scope="col" class="number">Flips</th><th scope="col" class="number">Forgiven</th>
{% endif %}
<th scope="col" class="number">Worst row</th><th scope="col" class="number">Rows</th>
<th scope="col">Shape</th>
</tr></thead>
<tbody>
{% for case in some %}
<tr{% if not case.ok %} class="bad"{% endif %}>
<td class="{{ 'good' if case.ok else 'bad' }}">{{ '✓ ok' if case.ok else '✗ fails' }}</td>
<th scope="row">{{ case.kind }}</th><td class="number">{{ case.batch }}</td>
<td class="number{{ ' bad' if case.ratio > 1 }}">{{ case.ratio | measured }}</td>
<td class="number{{ ' bad' if case.batch_ratio > 1 }}">{{ case.batch_ratio | measured }}</td>
<td class="number">{{ case.max_error | measured }}</td>
{% if has_labels %}
<td class="number{{ ' bad' if case.flips > case.forgiven and case.backend != 'int8' }}">
  {{- case.flips | count }}</td>
<td class="number">{{ case.forgiven | count }}</td>
{% endif %}
<td class="number">{{ case.worst_sample | count }}</td>
<td class="number">{{ case.samples | count }}</td><td>{{ case.shape | shape }}</td>
</tr>
{% endfor %}
</tbody>
</table>
</div>
{% endmacro %}
<div class="wide" tabindex="0" role="region" aria-label="Worst ratio by kind of input">
<table>
<caption>Worst ratio: error ÷ limit</caption>
<thead><tr>
<th scope="col">Inputs</th><th scope="col" class="number">Rows</th>
{% for backend in backends %}
<th scope="col" class="number">{{ backend }}</th>
{% endfor %}
<th scope="col">What they are</th>
</tr></thead>
<tbody>
{% for kind, meaning, many, worst in kinds %}
<tr>
<th scope="row">{{ kind }}</th><td class="number">{{ many | count }}</td>
{% for ratio, ok in worst %}
<td class="number{{ ' bad' if not ok }}">{{ '✗ ' if not ok }}{{ ratio }}</td>
{% endfor %}
<td>{{ meaning }}</td>
</tr>
{% endfor %}
</tbody>
</table>
</div>
{% for backend, headline, in_sight, all in groups %}
<h3>{{ backend }}</h3>
{{ rows(backend, headline ~ ' · worst first', in_sight) }}
{% if all | length > in_sight | length %}
<details><summary>All {{ all | length | plural('case') }}</summary>
{{ rows(backend, 'in the order they ran', all) }}
</details>
{% endif %}
{% endfor %}
"""

RATIOS = """\
<p class="lead">How many outputs of held-out rows have which error, as a part of the limit that
  holds for each. What is exact, or nearly so, stands in the first bar.</p>
<div class="plots">
{% for svg, name, text in drawn %}
<figure>{{ svg }}<figcaption><strong>{{ name }}</strong>: {{ text }}.</figcaption></figure>
{% endfor %}
</div>
"""

OUTPUTS = """\
<p class="lead">Raw outputs of held-out rows against those of the float64 reference: equal ones lie
  on the line. Below, how far apart they are, with the largest limit that holds for one; what is
  equal stands lowest.</p>
<div class="plots">
{% for svg, name, text in drawn %}
<figure>{{ svg }}<figcaption><strong>{{ name }}</strong>: {{ text }}.</figcaption></figure>
{% endfor %}
</div>
"""

LAYERS = """\
<figure>
<div class="wide long" tabindex="0" role="region" aria-label="Plot of errors by layer">
{{ svg }}
</div>
<figcaption><span class="key first"></span>the export, <span class="key second"></span>eager float32
  (dashed), both against float64: root mean square over that of the reference's values. Largest
  after <code>{{ largest.node }}</code>: {{ largest.error | measured }}.
  {%- if diverging is not none %} The first diverging node is number {{ diverging + 1 }}.{% endif %}
</figcaption>
</figure>
<details><summary>All {{ layers | length | plural('node') }}</summary>
<div class="wide" tabindex="0" role="region" aria-label="Errors by layer">
<table>
<thead><tr>
<th scope="col" class="number">#</th><th scope="col">Node</th><th scope="col">Operator</th>
<th scope="col">Output</th><th scope="col" class="number">Export</th>
<th scope="col" class="number">Eager float32</th>
</tr></thead>
<tbody>
{% for layer in layers %}
<tr{% if loop.index0 == diverging %} class="bad"{% endif %}>
<td class="number">{{ loop.index }}</td><th scope="row"><code>{{ layer.node }}</code></th>
<td>{{ layer.op }}</td><td>{{ layer.shape | shape }}</td>
<td class="number">{{ layer.error | measured }}</td>
<td class="number">{{ layer.float32 | measured }}</td>
</tr>
{% endfor %}
</tbody>
</table>
</div>
</details>
"""
