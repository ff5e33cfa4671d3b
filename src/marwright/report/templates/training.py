"""How a model was trained."""

from __future__ import annotations

TRAINING = """\
<p>
{% if report.epochs %}
{{ report.epochs | length | plural('epoch') }};
{%- if selected %} the weights are those of epoch {{ report.best_epoch | count }}, after which the
  loss on the validation split was least.{% else %} the script told no validation loss, so nothing
  says how the weights were selected.{% endif %}
{% else %}
The script told nothing of its epochs.
{% endif %}
  On the test split, which had no part in it:</p>
<dl class="tiles">
{% for name, value, baseline, about in metrics %}
<div><dt>{{ name }}</dt>
<dd class="value">{{ value | number(4) }}</dd>
{% if baseline is not none %}
<dd>baseline <strong>{{ baseline | number(4) }}</strong></dd>
{% endif %}
<dd>{{ about }}</dd></div>
{% endfor %}
</dl>
{% if report.epochs %}
{% if loss or metric or rate %}
<h3>Learning curves</h3>
<p class="lead">The line marks the epoch whose weights were kept.
  {%- if changes %} Dotted lines stand where another number of stages begins to train:
  {{ stages[0] | plural('stage') }} at first, {{ stages[1] | count }} at last.
  {%- endif %}</p>
<div class="plots">
{% if loss %}
<figure>{{ loss }}<figcaption><span class="key first"></span>training: the mean of an epoch, while
  the weights still move; <span class="key second"></span>validation (dashed): after the epoch.
</figcaption></figure>
{% endif %}
{% if metric %}
<figure>{{ metric }}<figcaption><strong>{{ main }}</strong> on the validation split.
  {%- if lower %} Values below −1 stand at −1.{% endif %}</figcaption></figure>
{% endif %}
{% if rate %}
<figure>{{ rate }}<figcaption><strong>Learning rate</strong> of the head, at the end of each epoch.
</figcaption></figure>
{% endif %}
</div>
{% endif %}
<details><summary>{{ report.epochs | length | plural('epoch') }} in numbers</summary>
<div class="wide" tabindex="0" role="region" aria-label="Epochs in numbers">
<table>
<thead><tr>
<th scope="col" class="number">Epoch</th><th scope="col" class="number">Training loss</th>
<th scope="col" class="number">Validation loss</th><th scope="col" class="number">{{ main }}</th>
<th scope="col" class="number">Learning rate</th><th scope="col" class="number">Stages</th>
<td></td>
</tr></thead>
<tbody>
{% for epoch in report.epochs %}
<tr>
<th scope="row" class="number">{{ epoch.number | count }}</th>
<td class="number">{{ '–' if epoch.train_loss is none else epoch.train_loss | number(4) }}</td>
{% set loss = epoch.validation_loss %}
<td class="number">{{ '–' if loss is none else loss | number(4) }}</td>
<td class="number">{{ '–' if epoch.metric is none else epoch.metric | number(4) }}</td>
<td class="number">{{ '–' if epoch.learning_rate is none else epoch.learning_rate | number }}</td>
<td class="number">{{ epoch.stages | count }}</td>
<td>{{ '← kept' if epoch.number == report.best_epoch }}</td>
</tr>
{% endfor %}
</tbody>
</table>
</div>
</details>
{% endif %}
<h3>Started from</h3>
{% if report.start %}
{% set start = report.start %}
<dl class="pairs">
<dt>Source</dt><dd>{{ start.source }}</dd>
<dt>Taken</dt><dd>{{ start.loaded | length | plural('tensor') }}</dd>
<dt>Not taken</dt><dd>{{ start.skipped | length | plural('tensor') }} of the source</dd>
<dt>New</dt><dd>{{ start.initialised | length | plural('tensor') }} of this network</dd>
</dl>
{% if start.notes %}
<ul>
{% for note in start.notes %}
<li>{{ note }}</li>
{% endfor %}
</ul>
{% endif %}
{% if start.skipped %}
<details><summary>Not taken: {{ start.skipped | length | plural('tensor') }}</summary>
<div class="wide" tabindex="0" role="region" aria-label="Tensors that were not taken">
<table>
<thead><tr><th scope="col">Tensor</th><th scope="col">Why not</th></tr></thead>
<tbody>
{% for name, reason in start.skipped.items() %}
<tr><th scope="row"><code>{{ name }}</code></th><td>{{ reason }}</td></tr>
{% endfor %}
</tbody>
</table>
</div>
</details>
{% endif %}
{% for names, what in ((start.initialised, 'New'), (start.loaded, 'Taken')) if names %}
<details><summary>{{ what }}: {{ names | length | plural('tensor') }}</summary>
<p class="note">
{% for name in names %}
<code>{{ name }}</code>{{ ',' if not loop.last }}
{% endfor %}
</p>
</details>
{% endfor %}
{% else %}
<p>Random weights.</p>
{% endif %}
{% if report.events %}
<h3>What else happened</h3>
<ul>
{% for event in report.events %}
<li>{{ event }}</li>
{% endfor %}
</ul>
{% endif %}
<h3>Environment</h3>
<dl class="pairs">
{% for name, value in report.environment.items() %}
<dt>{{ name }}</dt><dd>{{ value }}</dd>
{% endfor %}
</dl>
"""
