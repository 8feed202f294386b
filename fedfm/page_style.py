"""What every page looks like: colours, light and dark, and its ground. A page adds its own rules behind these."""

BASE = """
:root{color-scheme:light dark;--ink:#1b2430;--soft:#5b6776;--line:#dfe4ea;--page:#f6f7f9;--card:#fff;--good:#14734a;
--good-soft:#e3f3ea;--warn:#8a5a00;--warn-soft:#fdf2d8;--bad:#b3261e;--bad-soft:#fbe6e4}
@media (prefers-color-scheme:dark){:root{--ink:#e8ecf1;--soft:#9aa7b6;--line:#2d3744;--page:#10151c;--card:#18202a;
--good:#6fd3a0;--good-soft:#16332a;--warn:#e8bd5c;--warn-soft:#3a2f14;--bad:#ff9b92;--bad-soft:#431f1d}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{margin:0 auto;padding:32px 20px 64px}
.soft{color:var(--soft);font-size:.92rem}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;margin:18px 0}
"""
