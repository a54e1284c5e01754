"""How a page looks: on a laptop, on a phone, on paper."""

CSS = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 0 auto; max-width: 1080px;
  padding: 0 16px 48px; overflow-wrap: anywhere; }
h1 { font-size: 1.6em; margin: 0.8em 0 0.2em; }
h2 { font-size: 1.3em; margin: 1.8em 0 0.4em; border-top: 2px solid #1a1a1a; padding-top: 0.5em; }
h3 { font-size: 1.05em; margin: 1.4em 0 0.3em; }
p { margin: 0.3em 0; max-width: 75ch; }
.quiet { color: #555; font-size: 0.9em; }
.panels { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 12px 24px; }
figure { margin: 0; break-inside: avoid; max-width: 560px; }
figcaption { font-size: 0.9em; font-weight: 600; }
.picture { width: 100%; height: auto; display: block; }
.picture text { font: 13px system-ui, sans-serif; fill: #333; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 18px; margin: 0.3em 0; padding: 0; list-style: none;
  font-size: 0.9em; }
.sample { vertical-align: middle; margin-right: 6px; }
.wide { overflow-x: auto; margin: 0.5em 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.92em; }
th, td { padding: 3px 12px 3px 0; text-align: right; white-space: nowrap; vertical-align: top;
  border-bottom: 1px solid #ddd; }
th:first-child, td:first-child, .words { text-align: left; }
th { border-bottom: 1.5px solid #1a1a1a; white-space: normal; overflow-wrap: normal; vertical-align: bottom; }
td.words { white-space: normal; min-width: 12ch; }
small { font-size: 0.72em; }
summary { cursor: pointer; }
@media (max-width: 520px) { .picture text { font-size: 15px; } }
@media print {
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  h2, h3 { break-after: avoid; }
  .panels { grid-template-columns: 1fr 1fr; }
  tr { break-inside: avoid; }
  .wide { overflow: visible; }
  table { font-size: 0.75em; }
  th, td { padding-right: 7px; }
  td { white-space: normal; }
}
"""
