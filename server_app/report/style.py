"""The report's one style sheet: light and dark, and plain on paper. No other file, font or script is loaded."""

from fedfm.page_style import BASE

CSS = (
    BASE
    + """
:root{--total:#10243e;--s0:#0072b2;--s1:#c75b12;--s2:#0f8a6a;--s3:#a8458a;--s4:#7a6a00;--s5:#3d7fb8;--s6:#8c4a2f;
--s7:#6a51a3}
@media (prefers-color-scheme:dark){:root{--total:#f2f5f9;--s0:#56b4e9;--s1:#f0a35e;--s2:#3fc79f;--s3:#dd8cc4;
--s4:#d9c84a;--s5:#8fc1ec;--s6:#d39a7c;--s7:#b5a4e3}}
main{max-width:880px}
h1{font-size:1.05rem;font-weight:600;color:var(--soft);margin:0 0 4px}
h2{font-size:1.15rem;margin:0 0 4px}
p{margin:.3em 0}
section{padding:22px 24px}
.verdict{border-left:8px solid var(--good);background:var(--good-soft)}
.verdict.bad{border-left-color:var(--bad);background:var(--bad-soft)}
.verdict h2{font-size:1.45rem;line-height:1.3}
.verdict .privacy{font-size:1.08rem;font-weight:600;margin-top:.6em}
.verdict .alarm{color:var(--bad);font-size:1.5rem;font-weight:800;line-height:1.3}
.verdict .gain{font-size:1.08rem;font-weight:600;margin-top:.3em}
.verdict ul{margin:.7em 0 0;padding-left:1.2em}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:14px;margin:0}
.facts dt{color:var(--soft);font-size:.85rem}
.facts dd{margin:0;font-size:1.25rem;font-weight:650;font-variant-numeric:tabular-nums}
.scroll{overflow-x:auto;margin-top:14px}
table{border-collapse:collapse;width:100%;font-size:.92rem}
caption{text-align:left;color:var(--soft);font-size:.88rem;padding-bottom:6px}
th,td{text-align:left;padding:7px 10px 7px 0;border-bottom:1px solid var(--line);vertical-align:top}
thead th{color:var(--soft);font-weight:600;font-size:.85rem}
tbody th{font-weight:600;min-width:9.5em;overflow-wrap:anywhere}
h3{font-size:.98rem;margin:1.2em 0 0}
td.figure{font-variant-numeric:tabular-nums}
details{margin-top:12px}
summary{cursor:pointer;color:var(--soft)}
pre{overflow-x:auto;font:13px/1.5 ui-monospace,Menlo,Consolas,monospace;white-space:pre-wrap;overflow-wrap:anywhere}
svg{width:100%;height:auto;display:block;margin-top:10px}
svg text{font:13px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;fill:var(--ink)}
svg .tick{fill:var(--soft);font-size:12px}
svg .end{text-anchor:end}
svg .middle{text-anchor:middle}
.grid{stroke:var(--line)}
.line{fill:none;stroke-width:1.75;stroke-linejoin:round}
.line.total{stroke-width:3.5}
.band{fill:var(--total);opacity:.1}
.whisker{stroke-width:2.5;stroke-linecap:round}
.whisker.ends{stroke:var(--ink);stroke-width:1.5;opacity:.6}
.track{fill:var(--line);opacity:.55}
.bar{fill:var(--s0)}
.bar.over{fill:var(--bad)}
.bar.left{fill:var(--s1)}
.heat{fill:var(--s0)}
svg .cell{font-size:13px;font-variant-numeric:tabular-nums} svg .cell.strong{fill:#fff;font-weight:600}
.planned{stroke:var(--ink);stroke-width:2}
.budget{stroke:var(--bad);stroke-width:1.5;stroke-dasharray:4 4}
.line.total,.whisker.total{stroke:var(--total)}
.dot.total,svg text.total{fill:var(--total)}
svg text.total{font-weight:700}
.s0.line,.s0.whisker{stroke:var(--s0)} .s0.dot,svg text.s0{fill:var(--s0)}
.s1.line,.s1.whisker{stroke:var(--s1)} .s1.dot,svg text.s1{fill:var(--s1)}
.s2.line,.s2.whisker{stroke:var(--s2)} .s2.dot,svg text.s2{fill:var(--s2)}
.s3.line,.s3.whisker{stroke:var(--s3)} .s3.dot,svg text.s3{fill:var(--s3)}
.s4.line,.s4.whisker{stroke:var(--s4)} .s4.dot,svg text.s4{fill:var(--s4)}
.s5.line,.s5.whisker{stroke:var(--s5)} .s5.dot,svg text.s5{fill:var(--s5)}
.s6.line,.s6.whisker{stroke:var(--s6)} .s6.dot,svg text.s6{fill:var(--s6)}
.s7.line,.s7.whisker{stroke:var(--s7)} .s7.dot,svg text.s7{fill:var(--s7)}
@media print{body{background:#fff}section{break-inside:avoid}}
"""
)
