"""The style sheet of the report's page: for screens, light and dark, and for paper."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --quiet: #5b6675; --line: #d9dee5; --paper: #fff; --soft: #f4f6f9;
  --good: #1a7346; --fair: #8a5a00; --poor: #b3261e; --notice: #fff4d6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaf0; --quiet: #9aa5b4; --line: #38414d; --paper: #161b22;
  --soft: #1f2630; --good: #5fd39a; --fair: #f0bf5a; --poor: #ff8f86; --notice: #3a2f12; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 14px/1.45 system-ui, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.75rem 1.5rem; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .2rem; }
h2 { font-size: 1.05rem; margin: 1.4rem 0 .45rem; break-after: avoid; }
p { margin: .4rem 0; }
.eyebrow { margin: 0 0 .3rem; color: var(--quiet); font-weight: 600; letter-spacing: .04em; }
.quiet { color: var(--quiet); font-size: .9em; }
.notice { background: var(--notice); border-radius: 4px; padding: .45rem .75rem; margin-top: .9rem; font-weight: 600; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .38rem .9rem .38rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
thead th { color: var(--quiet); font-size: .85em; font-weight: 600; white-space: nowrap; }
tbody th { font-weight: 700; white-space: nowrap; }
.volumes { width: auto; min-width: 34rem; font-size: 1.08em; }
.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.images td:nth-child(2) { width: 36%; }
.images td:nth-child(3), .images td:nth-child(4) { white-space: nowrap; }
.absent { color: var(--quiet); }
.grade { font-weight: 700; white-space: nowrap; }
.good { color: var(--good); } .fair { color: var(--fair); } .poor { color: var(--poor); }
.findings { margin: 0; padding: 0; list-style: none; }
.findings li { border-left: 4px solid var(--fair); background: var(--soft); padding: .4rem .75rem; margin: .35rem 0;
  overflow-wrap: anywhere; break-inside: avoid; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.2rem; margin: 0; }
dt { color: var(--quiet); } dd { margin: 0; overflow-wrap: anywhere; }
.methods { background: var(--soft); border: 1px solid var(--line); border-radius: 4px; padding: .7rem .9rem;
  user-select: all; }
ol { margin: .3rem 0; padding-left: 1.4rem; }
@page { size: A4; margin: 12mm; }
@media print { :root { color-scheme: light; --ink: #000; --quiet: #444; --line: #bbb; --paper: #fff; --soft: #f4f4f4;
  --good: #1a7346; --fair: #8a5a00; --poor: #b3261e; --notice: #fff4d6; }
  html { font-size: 11px; } body { font-size: 8pt; line-height: 1.28; } main { padding: 0; max-width: none; }
  h2 { margin: .8rem 0 .3rem; } th, td { padding-top: .22rem; padding-bottom: .22rem; }
  tr, .methods { break-inside: avoid; } .notice, .grade { print-color-adjust: exact; } }
"""
