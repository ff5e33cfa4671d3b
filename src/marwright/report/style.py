"""How pages look, and the colours that plots take from them."""

from __future__ import annotations

# Colours that stand for the page's own: a plot is drawn with these, and `report/svg.py` puts the
# variable in their place, so that one plot serves a light page and a dark one.
INK, MUTED, LINE, FIRST, SECOND, BAD = (f"#0102{number:02x}" for number in range(6))
VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    FIRST: "var(--first)",
    SECOND: "var(--second)",
    BAD: "var(--bad)",
}

CSS = """\
:root {
  color-scheme: light dark;
  --ink: #1b1f24; --muted: #59616b; --line: #d8dde3; --paper: #ffffff; --raised: #f5f7f9;
  --first: #2563ae; --second: #b45f06; --third: #7a8794; --good: #19713a; --bad: #b3261e;
  --good-paper: #e9f5ed; --bad-paper: #fcedec; --warn: #8a5a00; --warn-paper: #fdf4e0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e8ec; --muted: #9ba5b0; --line: #363d46; --paper: #14181c; --raised: #1c2127;
    --first: #74aef2; --second: #f0a354; --third: #8d99a6; --good: #6fcf8f; --bad: #ff8a80;
    --good-paper: #16291d; --bad-paper: #351b1a; --warn: #e9bd62; --warn-paper: #2e2614;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 1.5rem clamp(1rem, 4vw, 2.5rem) 4rem; max-width: 76rem;
  color: var(--ink); background: var(--paper); overflow-wrap: anywhere;
  font: 1rem/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif;
}
h1, h2, h3 { text-wrap: balance; }
h1 { margin: 0; font-size: 1.9rem; line-height: 1.2; }
h2 { margin: 0 0 1rem; font-size: 1.35rem; line-height: 1.25; }
h3 { margin: 1.75rem 0 .6rem; font-size: 1.05rem; }
p { margin: 0 0 .75rem; max-width: 46rem; }
a { color: var(--first); }
code { font: .9em/1.4 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
header p { margin: .25rem 0 0; color: var(--muted); }
nav ul {
  display: flex; flex-wrap: wrap; gap: .4rem; margin: 1.1rem 0 0; padding: 0;
  list-style: none;
}
nav a {
  display: block; padding: .2rem .75rem; border: 1px solid var(--line); border-radius: 1rem;
  color: var(--ink); font-size: .875rem; text-decoration: none;
}
nav a:hover { border-color: var(--first); color: var(--first); }
section { margin-top: 2rem; padding-top: 1.75rem; border-top: 1px solid var(--line); }
.lead, .note, figcaption { color: var(--muted); font-size: .9rem; }
.number, td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.good { color: var(--good); }
.bad { color: var(--bad); font-weight: 600; }

.box {
  margin: 0 0 1rem; padding: .9rem 1.1rem; border-radius: .5rem;
  border-left: .3rem solid var(--line); background: var(--raised);
}
.box > :last-child { margin-bottom: 0; }
.box h3 { margin-top: 0; }
.box.good, .box.bad { color: inherit; font-weight: inherit; }
.box.good { border-color: var(--good); background: var(--good-paper); }
.box.bad { border-color: var(--bad); background: var(--bad-paper); }
.box.warn { border-color: var(--warn); background: var(--warn-paper); }
.word { margin-bottom: .2rem; font-size: 1.5rem; font-weight: 700; line-height: 1.3; }
.box.good .word { color: var(--good); }
.box.bad .word { color: var(--bad); }
.badge {
  display: inline-block; margin-right: .3rem; padding: 0 .5rem; border: 1px solid currentColor;
  border-radius: .8rem; color: var(--muted); font-size: .8rem; font-weight: 600;
  white-space: nowrap;
}
.badge.bad { color: var(--bad); }
.problems { margin: 0 0 1rem; padding-left: 1.4rem; }
.problems li { margin-bottom: .9rem; }
.problems p { margin: .2rem 0 0; }

.tiles {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(max(9.25rem, 22%), 1fr));
  gap: .75rem; margin: 0;
}
.tiles > div { padding: .75rem .9rem; border: 1px solid var(--line); border-radius: .5rem; }
.tiles dt { color: var(--muted); font-size: .875rem; }
.tiles dd { margin: 0; color: var(--muted); font-size: .85rem; line-height: 1.4; }
.tiles dd.value {
  color: var(--ink); font-size: 1.35rem; font-weight: 600;
  font-variant-numeric: tabular-nums;
}
.tiles dd.value.bad { color: var(--bad); }
dl.pairs {
  display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem;
  margin: 0 0 .75rem; font-size: .9rem;
}
dl.pairs dt { color: var(--muted); }
dl.pairs dd { margin: 0; min-width: 0; }

.wide { overflow-x: auto; margin: 0 0 1rem; }
.wide:focus-visible { outline: 2px solid var(--first); }
table { border-collapse: collapse; font-size: .875rem; }
caption { padding-bottom: .3rem; color: var(--muted); text-align: left; }
th, td {
  padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left;
  white-space: nowrap;
}
th:last-child, td:last-child { padding-right: .2rem; }
thead th {
  color: var(--muted); font-weight: 600; vertical-align: bottom; white-space: normal;
  overflow-wrap: normal;
}
tbody th { font-weight: 500; }
tr.bad { color: inherit; font-weight: inherit; background: var(--bad-paper); }
details { margin: 0 0 1rem; }
summary { padding: .25rem 0; color: var(--first); font-size: .9rem; cursor: pointer; }

.plots {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr));
  gap: 1.25rem;
}
figure { margin: 0; min-width: 0; }
.plots figure { max-width: 30rem; }
figcaption { margin-top: .2rem; }
svg { display: block; width: 100%; height: auto; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
.long svg { min-width: 46rem; max-width: 60rem; }
.key {
  display: inline-block; width: .8em; height: .8em; margin-right: .25em;
  border-radius: .15em; vertical-align: -.05em;
}
.key.first { background: var(--first); }
.key.second { background: var(--second); }
.key.third { background: var(--third); }
.key.bad { background: var(--bad); }

.cards {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr));
  gap: 1rem;
}
.card {
  padding: .9rem 1rem; border: 1px solid var(--line); border-radius: .5rem; min-width: 0;
}
.card > :last-child { margin-bottom: 0; }
.card h3 { margin: 0 0 .2rem; }
.card table { width: 100%; }
.card img {
  display: block; max-width: 100%; height: auto; margin-bottom: .5rem;
  border: 1px solid var(--line);
}
img.pixels { image-rendering: pixelated; }
.card tbody th { white-space: normal; }
.card th, .card td { padding-right: .6rem; }
.card td.bars { width: 30%; min-width: 3.5rem; padding-right: 0; }
.bars span {
  display: block; height: .38rem; margin: .1rem 0; border-radius: .1rem; min-width: 1px;
}
td.bars { width: 12rem; min-width: 7rem; }
.stack { display: flex; }
.stack span { height: .6rem; margin: 0; border-radius: 0; min-width: 0; }
td.text { min-width: 12rem; white-space: normal; }
.cards.small { grid-template-columns: repeat(auto-fill, minmax(min(100%, 12.5rem), 1fr)); }
.cards.small + details { margin-top: .75rem; }
.small .card > div:last-child > :last-child { margin-bottom: 0; }
.sentences li { margin-bottom: .4rem; max-width: 46rem; }

.matrix th, .matrix td { border: 1px solid var(--line); padding: .15rem .4rem; }
.matrix td { width: 2.2rem; min-width: 2.2rem; height: 1.9rem; padding: 0 .15rem; }
.matrix tbody td { text-align: center; font-variant-numeric: tabular-nums; }
.matrix td.right { background: color-mix(in srgb, var(--first) var(--shade), transparent); }
.matrix td.wrong { background: color-mix(in srgb, var(--bad) var(--shade), transparent); }
.matrix th span {
  display: block; max-width: 9rem; overflow: hidden; text-overflow: ellipsis; white-space: nowrap;
}
.matrix tbody th { position: sticky; left: 0; background: var(--paper); text-align: right; }
.matrix thead th { text-align: center; }
.matrix.tall thead th { vertical-align: bottom; }
.matrix.tall thead span {
  max-width: none; max-height: 9rem; margin: 0 auto; writing-mode: vertical-rl;
  transform: rotate(180deg);
}
.unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.matrix.dense { font-size: .7rem; line-height: 1; }
.matrix.dense td { width: 1rem; min-width: 1rem; height: 1rem; padding: 0; }
.matrix.dense th { padding: .05rem .25rem; }
.matrix.dense thead th { padding: .25rem .05rem; }
@media (max-width: 34rem) {
  .cards.small .card { display: grid; grid-template-columns: 40% 1fr; gap: .9rem; }
  .matrix td { width: 1.7rem; min-width: 1.7rem; }
  .matrix th span { max-width: 6.5rem; }
}
@media print { .matrix td, .key { print-color-adjust: exact; } }
@media print { body { max-width: none; } section { break-inside: avoid-page; } }
"""
