"""The one style sheet of every report. Colours are Okabe and Ito's (2008), which colour-blind readers tell apart."""

STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf8; --card: #fff; --ink: #1d1f23; --soft: #5d636e; --rule: #dedbd5;
  --grid: #e8e6e1; --c0: #0072b2; --c1: #c65a00; --c2: #007d5a; --c3: #a8487c; --c4: #6b7280; --good: #0a6b47;
  --warning: #8a5a00; --error: #b3261e; --good-paper: #e3f3ec; --warning-paper: #fbf0d9; --error-paper: #fbe6e4; }
@media (prefers-color-scheme: dark) { :root { --paper: #14161a; --card: #1c1f25; --ink: #e8e6e1; --soft: #a3a9b4;
  --rule: #343941; --grid: #2b3038; --c0: #56b4e9; --c1: #f0a03c; --c2: #2fc19a; --c3: #dd92bd; --c4: #9aa1ad;
  --good: #6fd3a8; --warning: #f0c060; --error: #ff9b90; --good-paper: #173127; --warning-paper: #362b13;
  --error-paper: #3d1d1a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
  overflow-wrap: anywhere; }
main { max-width: 1180px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 8px; }
h2 { font-size: 1.25rem; margin: 40px 0 12px; padding-top: 12px; border-top: 1px solid var(--rule); }
p { margin: 0 0 12px; max-width: 75ch; }
.lead, .note { color: var(--soft); }
.note { font-size: .82rem; margin: 4px 0 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(130px, 1fr)); gap: 10px; margin: 16px 0; }
.cards > div, figure { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 12px; }
dt { font-size: .8rem; color: var(--soft); }
dd { margin: 0; font-size: 1.1rem; white-space: nowrap; font-variant-numeric: tabular-nums; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 350px), 1fr)); gap: 14px;
  align-items: start; }
figure { margin: 0; min-width: 0; }
figcaption { font-weight: 600; font-size: .92rem; margin-bottom: 6px; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
svg .grid { stroke: var(--grid); stroke-width: 1; }
svg .axis { stroke: var(--soft); stroke-width: 1; }
.f0 { fill: var(--c0); } .f1 { fill: var(--c1); } .f2 { fill: var(--c2); } .f3 { fill: var(--c3); }
.f4 { fill: var(--c4); }
.s0 { stroke: var(--c0); } .s1 { stroke: var(--c1); } .s2 { stroke: var(--c2); } .s3 { stroke: var(--c3); }
.s4 { stroke: var(--c4); }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.thin { stroke-width: 1; }
.mark { stroke-width: 1; opacity: .5; }
.band { opacity: .2; }
.d1 { stroke-dasharray: 6 3; } .d2 { stroke-dasharray: 2 3; } .d3 { stroke-dasharray: 8 3 2 3; }
.d4 { stroke-dasharray: 1 4; }
details { margin-top: 8px; font-size: .88rem; }
summary { cursor: pointer; color: var(--soft); padding: 6px 0; }
pre { margin: 0; padding: 12px; overflow-x: auto; font: .82rem/1.5 ui-monospace, monospace; background: var(--card);
  border: 1px solid var(--rule); border-radius: 8px; }
.table { overflow-x: auto; margin: 8px 0 16px; }
table { border-collapse: collapse; font-size: .88rem; }
.wide table { min-width: 100%; }
.wide th, .wide td { white-space: nowrap; }
caption { text-align: left; font-weight: 600; font-size: .92rem; padding-bottom: 6px; }
th, td { text-align: left; vertical-align: top; padding: 6px 12px 6px 0; border-bottom: 1px solid var(--rule); }
th { font-weight: 600; color: var(--soft); white-space: nowrap; }
th.number, td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.badge { display: inline-block; padding: 0 8px; border-radius: 10px; font-size: .82rem; font-weight: 600;
  white-space: nowrap; border: 1px solid var(--rule); color: var(--soft); }
.good { color: var(--good); background: var(--good-paper); border-color: var(--good); }
.warning { color: var(--warning); background: var(--warning-paper); border-color: var(--warning); }
.error { color: var(--error); background: var(--error-paper); border-color: var(--error); }
.findings { list-style: none; padding: 0; display: grid; gap: 10px; }
.findings li { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; padding: 12px; }
.findings p { margin: 6px 0 0; }
@media print { body { background: #fff; } figure, .findings li { break-inside: avoid; } }
"""
