"""The report's style sheet: one column, system fonts, light and dark, paper and phone."""

CSS = """
:root {
  color-scheme: light dark;
  --paper: #fcfbf8; --raised: #ffffff; --ink: #1f2328; --soft: #5b626b; --line: #dfdcd4;
  --model: #0a66a8; --other: #7d7a73; --good: #0b6e52; --tint: #e8f0f6; --held: #b4441f;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Helvetica, Arial, sans-serif;
  --serif: "Iowan Old Style", "Palatino Linotype", Palatino, Charter, Georgia,
    "DejaVu Serif", serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #15181c; --raised: #1c2026; --ink: #e4e2dc; --soft: #a2a7ae; --line: #343a42;
    --model: #6cb6f2; --other: #a09c93; --good: #5fc9a3; --tint: #1e2d3a; --held: #f08a5d;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0 auto; padding: 3rem 1.5rem 5rem; max-width: 66rem;
  background: var(--paper); color: var(--ink);
  font: 1rem/1.55 var(--sans); font-variant-numeric: tabular-nums;
}
h1, h2, h3 { font-weight: 600; line-height: 1.2; text-wrap: balance; }
h1 { font: 600 2.4rem/1.1 var(--serif); margin: 0 0 .6rem; letter-spacing: -.01em; }
h2 { font: 600 1.6rem/1.2 var(--serif); margin: 0 0 .6rem; }
h3 { font-size: 1rem; margin: 1.8rem 0 .5rem; }
p, dl, figcaption { max-width: 44rem; }
p { margin: .5rem 0 1rem; }
a { color: var(--model); text-underline-offset: .15em; }
:focus-visible { outline: 2px solid var(--model); outline-offset: 2px; }
section { margin-top: 4rem; }
.lead { font-size: 1.1rem; color: var(--soft); }
.note, figcaption, .missing { color: var(--soft); font-size: .9rem; }
.missing { font-style: italic; }
.eyebrow { color: var(--soft); font-size: .85rem; letter-spacing: .06em; margin: 0 0 .8rem; }
nav { margin: 2rem 0 0; padding: .7rem 0; border-block: 1px solid var(--line); font-size: .9rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; list-style: none; margin: 0;
  padding: 0; }
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }
figure { margin: 0; }
figcaption { margin-top: .5rem; }
img, svg { display: block; max-width: 100%; height: auto; }

.facts {
  display: grid; gap: 1rem 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(45%, 12rem), 1fr));
  margin: 1.8rem 0 0; max-width: none;
}
.facts dt { color: var(--soft); font-size: .8rem; }
.facts dd { margin: 0; overflow-wrap: anywhere; }

.headline {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 1px;
  margin: 2rem 0 0; padding: 0; list-style: none;
}
.headline li { background: var(--raised); padding: 1rem 1.1rem; box-shadow: 0 0 0 1px var(--line); }
.headline b { display: block; font: 600 2rem/1.1 var(--serif); margin: 0 0 .4rem; }
.headline b small { font-size: 1.1rem; color: var(--soft); font-weight: 400; }
.headline span { display: block; font-size: .85rem; line-height: 1.4; color: var(--soft); }
.headline .name { color: var(--ink); font-weight: 600; margin-bottom: .3rem; line-height: 1.25; }

.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .35rem .9rem .35rem 0; vertical-align: baseline; }
thead th { color: var(--soft); font-weight: 400; font-size: .82rem; white-space: nowrap; }
tbody th { font-weight: 400; }
tbody tr { border-top: 1px solid var(--line); }
.scores td { white-space: nowrap; }
.dots td.number { text-align: right; white-space: nowrap; }
code, pre, .config td, .config th { font-family: var(--mono); font-size: .82rem; }
code { overflow-wrap: anywhere; }

.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 27rem), 1fr));
  gap: 2.6rem 3rem; margin-top: 1.6rem; }
.panels.wide { grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); }
.panels > *, .curves > * { break-inside: avoid; }
.panels h3 { margin: 0 0 .2rem; }
.panels .note { margin: 0 0 .5rem; }
.dots { table-layout: fixed; font-size: .85rem; margin-top: .5rem; }
.dots tr { border: 0; }
.dots th, .dots td { padding: 0; line-height: 1.25; }
.dots tbody th { width: 33%; padding: .3rem .8rem .3rem 0; color: var(--soft);
  vertical-align: middle; }
.dots td.number { width: 7.2rem; padding-left: .9rem; vertical-align: middle; color: var(--soft); }
.dots td.number b { color: inherit; font-weight: 400; }
.dots td.number small { display: inline-block; width: 3.9rem; font-size: .75rem; }
.dots .model th, .dots .model td.number b { color: var(--ink); font-weight: 600; }
.dots .track { position: relative; height: 1.9rem; vertical-align: middle;
  background: linear-gradient(90deg, var(--line) 1px, transparent 1px) 0 0 / var(--step) 100%; }
.dots i { position: absolute; top: 50%; font-style: normal; print-color-adjust: exact; }
.dots .bar { height: 3px; margin-top: -1.5px; background: var(--other); opacity: .55; }
.dots .dot { width: 9px; height: 9px; margin: -4.5px 0 0 -4.5px; border-radius: 50%;
  border: 2px solid var(--other); background: var(--paper); }
.dots .model .bar { background: var(--model); }
.dots .model .dot { width: 11px; height: 11px; margin: -5.5px 0 0 -5.5px;
  border-color: var(--model); background: var(--model); }
.dots.plain .model th, .dots.plain .model td.number b { color: inherit; font-weight: 400; }
.dots.plain th { color: var(--ink); }
.dots.plain td.number { width: 4rem; color: var(--ink); }
.dots.plain small { display: none; }
.dots .chance { top: 0; bottom: 0; border-left: 2px dashed var(--held); margin-left: -1px; }
.dots tfoot td { height: 1.3rem; font-size: .72rem; color: var(--soft); position: relative; }
.dots tfoot i { top: .15rem; transform: translateX(-50%); }

.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr));
  gap: 1.8rem 2rem; margin-top: 1.2rem; }
.curves figure { display: flex; flex-direction: column; justify-content: space-between; }
.curves figcaption { margin: 0 0 .3rem; line-height: 1.35; color: var(--ink); }
.curves figcaption div { display: flex; justify-content: space-between; gap: .8rem; }
.curves figcaption span { white-space: nowrap; }
.curves figcaption p { margin: 0; color: var(--soft); font-size: .82rem; }
svg text { font: 11px var(--sans); fill: var(--soft); font-variant-numeric: tabular-nums; }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .raw { fill: none; stroke: var(--model); stroke-width: 1; opacity: .4; }
svg .line { fill: none; stroke: var(--model); stroke-width: 2; stroke-linejoin: round; }
svg .start { stroke: var(--held); stroke-width: 1.3; stroke-dasharray: 4 3; }
svg .startdot { fill: var(--held); }

.map { position: relative; background: #0b1a2c; }
.map img { width: 100%; }
.map .city { position: absolute; width: 14px; height: 14px; margin: -7px 0 0 -7px;
  border: 2px solid #fff; border-radius: 50%;
  box-shadow: 0 0 0 1.5px #000, inset 0 0 0 1.5px #000; }
.map .label { position: absolute; transform: translate(12px, -50%); padding: 0 .35rem;
  background: #000b; color: #fff; font-size: .8rem; white-space: nowrap; border-radius: 2px; }
.map .label.left { transform: translate(calc(-100% - 12px), -50%); }
.legend { display: flex; flex-wrap: wrap; gap: .3rem 1.4rem; margin: .5rem 0 0; padding: 0;
  list-style: none; font-size: .85rem; }
.legend i { display: inline-block; width: .9rem; height: .9rem; margin-right: .45rem;
  vertical-align: -.1rem; border: 1px solid var(--soft); print-color-adjust: exact; }
.ramp { display: flex; align-items: center; gap: .6rem; margin-top: .5rem; font-size: .85rem; }
.ramp i { flex: 0 1 14rem; height: .7rem; print-color-adjust: exact; }

.pictures { display: grid; gap: 1.6rem 2rem; margin-top: 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); }
.pictures > * { break-inside: avoid; }
.pictures figcaption { margin-top: .1rem; }
.triptych { display: grid; grid-template-columns: repeat(3, 1fr); gap: 3px; }
.triptych img, .strip img, .query img { width: 100%; aspect-ratio: 1; object-fit: cover; }
.triptych span { font-size: .75rem; color: var(--soft); }
.queries { display: grid; gap: 2rem 3rem; margin-top: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 28rem), 1fr)); }
.query { display: grid; grid-template-columns: 8rem 1fr; gap: 1rem; break-inside: avoid; }
.query p { margin: 0 0 .5rem; line-height: 1.4; }
.query .label { display: block; color: var(--soft); font-size: .78rem; }
.query .rank, .strips .rank { font-size: .82rem; color: var(--soft); margin: .4rem 0 0; }
.answers { list-style: none; margin: 0; padding: 0; font-size: .85rem; line-height: 1.35; }
.answers li { position: relative; padding: .18rem .4rem .18rem 1.5rem; color: var(--soft); }
.answers li::before { position: absolute; left: .4rem; content: "·"; }
.answers .right { color: var(--ink); background: var(--tint); print-color-adjust: exact; }
.answers .right::before { content: "✓"; color: var(--good); font-weight: 700; }
.strips { display: grid; gap: 1.8rem 3rem; margin-top: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 28rem), 1fr)); }
.strips > * { break-inside: avoid; }
.strips p { margin: 0 0 .4rem; }
.strip { display: grid; grid-template-columns: repeat(5, 1fr); gap: 6px; margin: 0; padding: 0;
  list-style: none; }
.strip li { position: relative; }
.strip .right img { outline: 3px solid var(--good); outline-offset: 1px; }
.strip .right::after { content: "✓"; position: absolute; right: 0; bottom: 0; width: 1.5rem;
  background: #0b6e52; color: #fff; text-align: center; font-weight: 700; line-height: 1.5rem; }

details { border-top: 1px solid var(--line); }
details:last-of-type { border-bottom: 1px solid var(--line); }
summary { cursor: pointer; padding: .6rem 0; }
summary:hover { color: var(--model); }
details > *:not(summary) { margin-bottom: 1rem; }
dl.protocol { display: grid; grid-template-columns: minmax(8rem, 13rem) 1fr; gap: .3rem 1rem;
  font-size: .85rem; max-width: none; }
dl.protocol dt { color: var(--soft); overflow-wrap: anywhere; }
dl.protocol dd { margin: 0; overflow-wrap: anywhere; }
footer { margin-top: 4rem; padding-top: 1rem; border-top: 1px solid var(--line);
  color: var(--soft); font-size: .85rem; }

@media (max-width: 40rem) {
  body { padding: 1.6rem 1rem 3rem; }
  h1 { font-size: 1.9rem; }
  section { margin-top: 3rem; }
  .headline { grid-template-columns: 1fr 1fr; }
  .dots tbody th { width: 38%; }
  .dots td.number { width: 3rem; }
  .dots td.number small { display: none; }
  .query { grid-template-columns: 5.5rem 1fr; }
  dl.protocol { grid-template-columns: 1fr; gap: 0; }
  dl.protocol dd { margin-bottom: .5rem; }
}
@media print {
  :root { --paper: #fff; }
  html { font-size: 10.5px; }
  body { max-width: none; padding: 0; }
  nav { display: none; }
  section { margin-top: 2.5rem; }
  h2, h3 { break-after: avoid; }
  p, tr { break-inside: avoid; }
  .scroll { overflow: visible; }
  details::details-content { content-visibility: visible; display: block; height: auto; }
}
"""
