"""How a report looks: on a wide and a narrow screen, in light and dark, and on paper."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #ffffff; --card: #f5f6f8; --line: #d5d9e0; --text: #1b1f27; --quiet: #565f6e;
  --accent: #1d5fa8; --best: #0b6b3a; --best-back: #dff3e6; --note: #8a5300; --note-back: #fdf1dc;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #14171c; --card: #1e232b; --line: #39414d; --text: #e4e7ec; --quiet: #a3adbb;
    --accent: #7db7f2; --best: #86dba6; --best-back: #173524; --note: #f0c377;
    --note-back: #3a2c12;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: break-word;
}
main, body > header, body > nav, body > footer {
  max-width: 66rem; margin: 0 auto; padding: 0 1rem;
}
body > header { padding-top: 2rem; }
body > footer { padding-top: 1rem; padding-bottom: 2rem; color: var(--quiet); font-size: .875rem; }
h1, h2, h3, h4, h5 { line-height: 1.25; margin: 1.6em 0 .6em; overflow-wrap: anywhere; }
h1 { font-size: 1.75rem; margin-top: 0; }
h2 { font-size: 1.35rem; border-bottom: 1px solid var(--line); padding-bottom: .3rem; }
h3 { font-size: 1.15rem; }
h4 { font-size: 1.02rem; }
p, ul { margin: .6em 0; max-width: 46rem; }
a { color: var(--accent); }
code, pre { font: .875em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
code { overflow-wrap: anywhere; }
pre {
  background: var(--card); border: 1px solid var(--line); border-radius: 6px; margin: .6em 0;
  padding: .6rem .8rem; white-space: pre-wrap; overflow-wrap: anywhere;
}
.quiet, figcaption, caption { color: var(--quiet); }
.note {
  background: var(--note-back); border-left: 4px solid var(--note); border-radius: 0 6px 6px 0;
  margin: .8em 0; padding: .5rem .8rem; max-width: 46rem;
}
.note > :first-child { margin-top: 0; } .note > :last-child { margin-bottom: 0; }
.tiles { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.2rem 0; padding: 0; }
.tiles > div {
  background: var(--card); border: 1px solid var(--line); border-radius: 8px; flex: 1 1 9.5rem;
  max-width: 22rem; padding: .6rem .9rem;
}
.tiles dt { color: var(--quiet); font-size: .875rem; }
.tiles dd { margin: 0; font-size: 1.4rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.tiles dd small { display: block; color: var(--quiet); font-size: .8125rem; font-weight: 400; }
.facts { margin: .6em 0; }
.facts > div { display: grid; grid-template-columns: minmax(7rem, 13rem) 1fr; gap: 0 1rem;
  padding: .2rem 0; border-bottom: 1px solid var(--line); }
.facts > div:last-child { border-bottom: 0; }
.facts dt { color: var(--quiet); }
.facts dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
.facts .facts, td .facts { margin: 0; }
.facts pre { margin: .2rem 0; }
.scroll { max-width: 100%; overflow-x: auto; margin: .8em 0; }
.facts .scroll, td .scroll { margin: .2rem 0; }
table { border-collapse: collapse; font-size: .9375rem; width: max-content; }
caption {
  caption-side: top; text-align: left; padding-bottom: .4rem; font-size: .875rem;
  position: sticky; left: 0; max-width: min(46rem, calc(100vw - 3.5rem));
}
th, td { padding: .35rem .7rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); }
/* Named by what stands beside it; the name is kept for screen readers. */
.facts caption, td caption {
  position: absolute; width: 1px; height: 1px; padding: 0; overflow: hidden; clip-path: inset(50%);
}
thead th { background: var(--card); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 500; overflow-wrap: anywhere; min-width: 6.5rem; max-width: 16rem; }
td { overflow-wrap: break-word; min-width: 4rem; max-width: 34rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.number small { display: block; color: var(--quiet); }
.total > * { border-top: 2px solid var(--line); font-weight: 600; }
.mark { border-radius: 4px; font-size: .75rem; font-weight: 600; padding: .05rem .35rem;
  margin-right: .35rem; white-space: nowrap; }
.best { background: var(--best-back); color: var(--best); border: 1px solid var(--best); }
.tied { color: var(--quiet); border: 1px solid var(--line); }
figure { margin: 1rem 0; }
figure img {
  display: block; height: auto; max-width: 100%; background: #ffffff; border-radius: 6px;
}
.wide img { min-width: 30rem; }
figcaption { font-size: .875rem; margin-top: .4rem; max-width: 46rem; }
details { margin: .8em 0; }
summary { color: var(--accent); cursor: pointer; }
nav ul { columns: 2 16rem; padding-left: 1.2rem; max-width: none; }
article { border-top: 3px solid var(--line); margin-top: 2.5rem; }
@media screen and (prefers-color-scheme: dark) { figure img { filter: brightness(.88); } }
@media (max-width: 36rem) {
  .facts > div { grid-template-columns: 1fr; }
  td { max-width: 17rem; }
  h1 { font-size: 1.4rem; }
}
@media print {
  body { font-size: 10pt; }
  main, body > header, body > nav, body > footer { max-width: none; padding: 0; }
  .scroll { overflow: visible; }
  .wide img { min-width: 0; }
  table { font-size: 9pt; width: auto; }
  caption { max-width: none; }
  th, td { padding: .2rem .4rem; }
  td, tbody th { min-width: 0; }
  thead .number { white-space: normal; }
  figure img { max-height: 23cm; width: auto; }
  article { border: 0; break-before: page; margin: 0; }
  tr, figure, pre, .tiles, .note { break-inside: avoid; }
  h1, h2, h3, h4, h5, caption { break-after: avoid; }
  details::details-content { content-visibility: visible; block-size: auto; }
  a { color: inherit; text-decoration: none; }
}
"""
