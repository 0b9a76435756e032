"""What the pages of reports share: each is one file that needs nothing else."""

from __future__ import annotations

from html import escape
from typing import Final

CSS: Final = """
:root{--ink:#1d232b;--soft:#5d6773;--line:#dde2e8;--good:#1b7f4b;--bad:#c0392b;--open:#a06a00;--paper:#fff;
--back:#f5f6f8}
body{margin:0;background:var(--back);color:var(--ink);
font:14px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1120px;margin:0 auto;padding:24px 20px 60px;background:var(--paper)}
h1{font-size:25px;margin:0 0 6px}h2{font-size:18px;margin:34px 0 6px}h3{font-size:14px;margin:0 0 2px}
p{color:var(--soft);margin:4px 0 12px;max-width:900px}
em{font-style:normal;font-size:.8em;font-weight:600;margin-left:8px}em.good{color:var(--good)}em.bad{color:var(--bad)}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:8px;margin:14px 0}
.tiles div{border:1px solid var(--line);border-radius:6px;padding:8px 12px}
.tiles b{display:block;font-size:19px}.tiles span{color:var(--soft);font-size:12px}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;margin:8px 0;font-size:12px}
i{display:inline-block;width:11px;height:11px;border-radius:2px;margin-right:6px;vertical-align:-1px}
table{border-collapse:collapse;font-size:13px;margin:6px 0}
th,td{padding:3px 10px;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th{font-weight:400}
tr:first-child th{color:var(--soft)}th:first-child{text-align:left}
.pair{display:flex;flex-wrap:wrap;gap:0 48px}
td.text,th.text{text-align:left;white-space:normal}
td.good{color:var(--good)}td.bad{color:#fff;background:var(--bad)}td.open{color:var(--open)}
section{margin:14px 0 18px}svg{display:block;width:100%;height:auto}
svg text{font:10px system-ui,sans-serif;fill:var(--soft)}
ul{margin:2px 0 0;padding-left:46px;color:var(--soft);font-size:12px}summary{color:var(--soft);cursor:pointer}
"""
"""Of the reports of runs."""


def document(title: str, style: str, body: str) -> str:
    """A page around ``body``, which is HTML. It ends with a newline."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style></head>\n"
        f"<body><main>\n{body}\n</main></body></html>\n"
    )
