"""The page's style: system fonts; light or dark as the reader's system asks, or as chosen."""

_LIGHT = """--bg: #f6f6f3; --card: #fff; --ink: #1b1e22; --soft: #5f666f; --rule: #e5e5e0;
  --track: #efefeb; --wrong: #b3261e; --wrong-bg: #fbe9e7; --good: #12725a; --link: #1f62b8;
  --s0: #2a6fd0; --s1: #cf5a1c; --s2: #12875f; --s3: #7350c8; --s4: #c93f80; --s5: #9a6c00;"""
_DARK = """--bg: #131518; --card: #1b1e22; --ink: #e7e9ec; --soft: #9fa8b2; --rule: #2d3238;
  --track: #272b30; --wrong: #ff8f85; --wrong-bg: #43211f; --good: #4fcfa5; --link: #7fb4f5;
  --s0: #62a4f4; --s1: #f28b54; --s2: #3fc493; --s3: #ab98f7; --s4: #f283b4; --s5: #dcb040;"""

THEME_SWITCH = (
    '<fieldset class="theme"><legend>Colours</legend>'
    + "".join(
        f'<label><input type="radio" name="theme" id="theme-{name}"{checked}>{name}</label>'
        for name, checked in (("auto", " checked"), ("light", ""), ("dark", ""))
    )
    + "</fieldset>"
)
"""Three radio buttons that the style looks at: no script."""

_COLOURS = f"""
:root {{ color-scheme: light dark; {_LIGHT} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_DARK} }} }}
:root:has(#theme-light:checked) {{ color-scheme: light; {_LIGHT} }}
:root:has(#theme-dark:checked) {{ color-scheme: dark; {_DARK} }}
@media print {{ :root, :root:has(#theme-dark:checked) {{ color-scheme: light; {_LIGHT}
  --bg: #fff; }} }}
"""

_LAYOUT = """
.plain { --c: var(--soft); }
.c0 { --c: var(--s0); } .c1 { --c: var(--s1); } .c2 { --c: var(--s2); }
.c3 { --c: var(--s3); } .c4 { --c: var(--s4); } .c5 { --c: var(--s5); }

* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-padding-top: 1rem; }
body { margin: 0 auto; padding: 2.6rem 1.5rem 5rem; max-width: 1200px; background: var(--bg);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans",
  sans-serif; font-variant-numeric: tabular-nums; }
header { display: flex; flex-wrap: wrap; align-items: baseline; justify-content: space-between;
  gap: .4rem 2rem; border-bottom: 1px solid var(--rule); padding-bottom: 1rem; }
h1 { font-size: 1.65rem; line-height: 1.25; letter-spacing: -.015em; margin: 0;
  overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; font-size: .92rem; }
nav a { color: var(--link); text-decoration: none; } nav a:hover { text-decoration: underline; }
h2 { font-size: 1.2rem; letter-spacing: -.01em; margin: 2.6rem 0 .7rem; }
h3 { font-size: .95rem; font-weight: 600; margin: 1.6rem 0 .7rem; color: var(--soft); }
.note { color: var(--soft); font-size: .92rem; margin: -.3rem 0 .9rem; max-width: 75ch; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 12px;
  padding: 1rem 1.1rem; margin: 0; min-width: 0; }
.scroll { overflow-x: auto; }
.key { display: inline-block; flex: none; width: .72em; height: .72em; border-radius: 3px;
  background: var(--c); margin-right: .5em; }
.key.dashed { background: repeating-linear-gradient(90deg, var(--c) 0 3px, transparent 3px 5px); }

table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 500; }
thead th { color: var(--soft); font-size: .82rem; padding: 0 1.4rem .5rem 0; }
tbody th, tbody td { border-top: 1px solid var(--rule); padding: .7rem 1.4rem .7rem 0; }
tr > :last-child { padding-right: 0; }
.results tbody th { white-space: nowrap; }
.results .rated { width: 34%; min-width: 11rem; }
.rate { display: flex; align-items: baseline; gap: .7em; line-height: 1.3; }
.rate b { font-weight: 600; } .rate span { color: var(--soft); font-size: .82rem; }
.bar { position: relative; height: 12px; margin-top: .3rem; background: var(--track);
  border-radius: 3px; }
.bar i { position: absolute; inset: 0 auto 0 0; background: var(--c); opacity: .55;
  border-radius: 3px; }
.bar u { position: absolute; top: 2px; bottom: 2px; margin-left: -1.5px;
  border: solid var(--ink); border-width: 0 1.5px;
  background: linear-gradient(var(--ink), var(--ink)) center / 100% 1.5px no-repeat; }

.samples dl { display: grid; grid-template-columns: max-content minmax(0, 1fr);
  gap: .1rem 1.4rem; margin: 0; padding: .9rem 0; border-top: 1px solid var(--rule); }
.samples dl:first-child { border: 0; padding-top: 0; } .samples dl:last-child { padding-bottom: 0; }
dt { color: var(--soft); font-size: .88rem; line-height: 1.7; } dd { margin: 0; line-height: 1.6; }
dd, td { overflow-wrap: anywhere; }
.wrong { background: var(--wrong-bg); border-radius: 3px; padding: .08em .14em; }
.wrong em { font-style: normal; font-weight: 600; color: var(--wrong); }
.gap { display: inline-block; width: .45em; border-bottom: 2px solid var(--wrong);
  margin: 0 .06em; }
s { color: var(--soft); text-decoration-color: var(--wrong); }
ins { color: var(--wrong); text-decoration: underline; text-decoration-thickness: 2px;
  text-underline-offset: .18em; }
.nothing { color: var(--soft); font-style: italic; margin-right: .5em; }

.runs, .charts { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr)); }
.runs { grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); }
.run h3 { display: flex; align-items: center; margin: 0 0 .7rem; color: var(--ink);
  font-size: 1rem; }
.run h3 span:first-of-type { overflow-wrap: anywhere; }
.tag { margin-left: auto; padding: .1rem .6rem; border-radius: 99px; background: var(--track);
  color: var(--soft); font-size: .78rem; font-weight: 500; white-space: nowrap; }
.run dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .12rem 1rem;
  margin: 0; font-size: .88rem; }
.run dt, .run dd { font-size: inherit; line-height: 1.5; }

figure { display: flex; flex-direction: column; }
figcaption h4 { font-size: .98rem; font-weight: 600; margin: 0; }
figcaption p { color: var(--soft); font-size: .82rem; line-height: 1.4; margin: .1rem 0 .7rem; }
.chart { display: block; width: 100%; max-width: 560px; height: auto; margin-top: auto;
  overflow: visible; }
.chart text { fill: var(--soft); font-size: 12px; }
.chart .rule { stroke: var(--rule); fill: none; }
.chart .line { fill: none; stroke: var(--c); stroke-width: 1.8; stroke-linejoin: round;
  stroke-linecap: round; }
.chart .dashed { stroke-dasharray: 5 4; }
.chart .faint { stroke-width: 1.3; opacity: .5; }
.chart .level { stroke-width: 1.3; stroke-dasharray: 1.5 4; }
.chart .dot { fill: var(--c); stroke: var(--card); stroke-width: 1; }
.chart .ring { fill: none; stroke: var(--c); stroke-width: 1.4; }
.legend { margin-top: .5rem; font-size: .82rem; table-layout: auto; }
.legend th, .legend td { border: 0; padding: .08rem 0 .08rem .9rem; text-align: right;
  white-space: nowrap; font-weight: 400; }
.legend tr:first-child th { color: var(--soft); }
.legend tr > :first-child { text-align: left; padding-left: 0; width: 100%; max-width: 0;
  overflow: hidden; text-overflow: ellipsis; }

.settings { font-size: .86rem; width: auto; min-width: 50%; }
.settings tbody th, .settings td { padding: .28rem 1.6rem .28rem 0; vertical-align: top; }
.settings tbody th { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace;
  font-size: .92em; font-weight: 400; }
.settings td { min-width: 6rem; }
.settings tbody tr:first-child > * { border-top: 0; }
.settings thead + tbody tr:first-child > * { border-top: 1px solid var(--rule); }
details { margin: .7rem 0; } summary { cursor: pointer; color: var(--link); font-size: .92rem; }
details .card { margin-top: .6rem; }

@media (max-width: 640px) {
  body { padding: 1.4rem 1rem 3rem; } h1 { font-size: 1.35rem; }
  .card { padding: .9rem; }
  .results thead { display: none; }
  .results tr { display: block; padding: .8rem 0; border-top: 1px solid var(--rule); }
  .results tr:first-child { border: 0; padding-top: 0; }
  .results tr:last-child { padding-bottom: 0; }
  .results tbody th, .results td { display: block; border: 0; padding: .15rem 0; width: auto; }
  .results .rated { width: auto; padding-top: .4rem; }
  .results td::before { content: attr(data-head); display: block; color: var(--soft);
    font-size: .8rem; }
  .samples dl { grid-template-columns: minmax(0, 1fr); } .samples dd { margin-bottom: .35rem; }
}
.unseen, .theme legend { position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); }
.theme { order: 2; border: 0; margin: 0; padding: 0; display: flex; font-size: .82rem;
  color: var(--soft); align-items: center; }
.theme label { padding: .12rem .65rem; border: 1px solid var(--rule); cursor: pointer;
  margin-left: -1px; }
.theme label:first-of-type { border-radius: 99px 0 0 99px; }
.theme label:last-of-type { border-radius: 0 99px 99px 0; }
.theme label:has(:checked) { background: var(--track); color: var(--ink); }
.theme input { position: absolute; opacity: 0; pointer-events: none; }
header nav { order: 3; flex-basis: 100%; }
:focus-visible, .theme label:has(:focus-visible) { outline: 2px solid var(--link);
  outline-offset: 2px; }

.tag.good { color: var(--good); } .tag.ill { color: var(--wrong); background: var(--wrong-bg); }
.run > p { font-size: .88rem; margin: 0 0 .6rem; }
.run details dl { margin-top: .5rem; }
h4.id { display: flex; flex-wrap: wrap; gap: .3rem 1rem; font-size: .88rem; font-weight: 500;
  margin: 0 0 .7rem; overflow-wrap: anywhere; }
h4.above { font-size: .98rem; margin: 1.4rem 0 .3rem; }
h4.above + .note { margin-top: 0; }
.card + .card { margin-top: 1rem; } .charts > .card, .runs > .card, .pair > .card { margin-top: 0; }
.stack { display: grid; gap: 1rem; grid-template-columns: minmax(0, 1fr); }
.stack > .card { margin-top: 0; }
.card .charts { gap: 1rem 1.4rem; }
figure { margin: 0; }
audio { display: block; width: 100%; max-width: 560px; height: 36px; margin-top: .5rem; }
.utterance .samples dl { padding-bottom: .5rem; }
.utterance .chart { max-width: none; min-width: 1000px; margin-top: .6rem; }
.chart .ink { fill: var(--ink); } .chart .bad { fill: var(--wrong); font-weight: 600; }
.chart .hidden { fill: #8d949c; }
.chart .plot { fill: none; stroke: var(--rule); } .chart .hover { fill: transparent; }
.chart .hover:hover { fill: var(--ink); fill-opacity: .08; }
.chart .cells { image-rendering: pixelated; }
.pair { display: grid; gap: 1rem; margin-bottom: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 330px), 1fr)); }
.codes caption { text-align: left; font-weight: 600; padding-bottom: .5rem; }
.codes { font-size: .86rem; }
.codes tbody th, .codes tbody td { padding: .22rem 1.4rem .22rem 0; }

@media print {
  body { padding: 0; max-width: none; font-size: 12px; }
  nav, .theme, audio { display: none; }
  .card, figure, dl { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .scroll { overflow: visible; } .utterance .chart { min-width: 0; }
}
"""

STYLE = _COLOURS + _LAYOUT
