"""A doctor's findings as one page for the security review: whole by itself, escaped, without a script."""

from collections.abc import Sequence

from fedfm.findings import STATUSES, Examination, Finding, by_group, counts, plain, verdict
from fedfm.markup import Element, element, head, written
from fedfm.page_style import BASE

CSS = (
    BASE
    + """
main{max-width:960px}
h1{font-size:1.05rem;font-weight:600;color:var(--soft);margin:0 0 4px}
h2{font-size:1.15rem;margin:0 0 8px}
p{margin:.3em 0}
section{padding:20px 24px}
.verdict{border-left:8px solid var(--good);background:var(--good-soft)}
.verdict.warn{border-left-color:var(--warn);background:var(--warn-soft)}
.verdict.fail{border-left-color:var(--bad);background:var(--bad-soft)}
.verdict h2{font-size:1.4rem;line-height:1.3}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:14px 0 0}
.facts dt{color:var(--soft);font-size:.85rem}
.facts dd{margin:0;font-weight:600;overflow-wrap:anywhere}
table{border-collapse:collapse;table-layout:fixed;width:100%;font-size:.94rem}
th,td{text-align:left;padding:9px 14px 9px 0;border-bottom:1px solid var(--line);vertical-align:top}
tr:last-child th,tr:last-child td{border-bottom:0}
tbody th{font-weight:600;width:11.5em;overflow-wrap:anywhere}
td.status{width:4.6em}
td.told{overflow-wrap:anywhere}
.badge{display:inline-block;border-radius:6px;padding:1px 8px;font-size:.78rem;font-weight:700;letter-spacing:.04em}
.badge.pass{color:var(--good);background:var(--good-soft)}
.badge.warn{color:var(--warn);background:var(--warn-soft)}
.badge.fail{color:var(--bad);background:var(--bad-soft)}
.badge.skip{color:var(--soft);border:1px solid var(--line)}
.code{font:600 .86rem ui-monospace,Menlo,Consolas,monospace;margin-right:.5em}
.fix{margin-top:4px}
.fix b{color:var(--soft);font-weight:600}
.what,.fix{white-space:pre-line}
@media print{body{background:#fff}main{max-width:none;padding:0}section{break-inside:avoid}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""
)


def page(examination: Examination) -> str:
    """Return the whole document: the verdict, what is to be done, and every check by group."""
    examination = plain(examination)
    todo = [finding for status in STATUSES[:2] for finding in examination.findings if finding.status == status]
    found = counts(examination.findings)
    body = element(
        "main",
        element("h1", f"Doctor's findings · {examination.of}"),
        element(
            "section",
            element("h2", verdict(examination)),
            element("dl", [_fact(*fact) for fact in examination.facts.items()], class_="facts"),
            class_=f"verdict {examination.worst}",
        ),
        _section("To be done", todo, with_group=True) if todo else None,
        [_section(f"{name[:1].upper()}{name[1:]}", those) for name, those in by_group(examination.findings).items()],
        element("p", _LEGEND.format(checks=sum(found.values())), class_="soft"),
    )
    title = f"fedfm: findings of {examination.of}"
    return written(element("html", head(title, CSS), element("body", body), lang="en"))


_LEGEND = (
    "{checks} checks. PASS: nothing is to be done. WARN: it works, and should be seen to. FAIL: cannot take part as it "
    "is. SKIP: could not be looked at here. Settings, files and columns are named; no value of the data and no exact "
    "count of it is on this page. Codes are explained in docs/errors.md."
)


def _fact(name: str, told: str) -> Element:
    return element("div", element("dt", name), element("dd", told))


def _section(title: str, findings: Sequence[Finding], *, with_group: bool = False) -> Element:
    rows = [
        element(
            "tr",
            element("td", element("span", finding.status.upper(), class_=f"badge {finding.status}"), class_="status"),
            element("th", f"{finding.group}: {finding.check}" if with_group else finding.check, scope="row"),
            element("td", _told(finding), class_="told"),
        )
        for finding in findings
    ]
    return element("section", element("h2", title), element("table", element("tbody", rows)))


def _told(finding: Finding) -> list[Element | None]:
    code = element("span", finding.code, class_="code") if finding.code else None
    return [
        element("div", code, finding.what, class_="what"),
        element("div", element("b", "Fix: "), finding.fix, class_="fix") if finding.fix else None,
    ]
