"""The look of a report: colours for light and dark, and everything else that CSS says."""

from .report_drawing import COLOURS

MORE_COLOURS = {  # of the page alone
    "panel": ("#f5f6f8", "#1c1f25"),
    "accent": ("#0b6b5f", "#5fd6c2"),
    "tint": ("#eef7f5", "#15282a"),
    "note": ("#fdf6e3", "#2d2716"),
}


def colour_variables() -> str:
    """`:root` rules that define every colour, light first, dark where the reader prefers it."""
    colours = COLOURS | MORE_COLOURS
    light, dark = ("".join(f"--{name}:{pair[i]};" for name, pair in colours.items()) for i in (0, 1))
    return f":root{{color-scheme:light dark;{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"


STYLE = """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
html.zooming { overflow: hidden; }
body { margin: 0 auto; max-width: 1280px; padding: clamp(1.5rem, 5vw, 3.5rem) clamp(1rem, 4vw, 2.5rem) 5rem;
  background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", sans-serif; }
h1 { font-size: clamp(1.65rem, 5vw, 2.4rem); line-height: 1.15; letter-spacing: -0.025em; margin: 0 0 0.4rem;
  text-wrap: balance; }
h2 { font-size: 1.25rem; letter-spacing: -0.012em; line-height: 1.3; margin: 0 0 0.3rem; }
h3 { font-size: 0.95rem; margin: 1.4rem 0 0.5rem; overflow-wrap: anywhere; }
p { margin: 0 0 0.8rem; max-width: 62rem; text-wrap: pretty; }
section { margin-top: clamp(2.2rem, 5vw, 3.5rem); }
small { display: block; color: var(--muted); font-size: 0.76rem; font-weight: 400; letter-spacing: 0; }
.summary, .intro { color: var(--muted); overflow-wrap: anywhere; }
.intro { font-size: 0.92rem; }
nav { display: flex; gap: 0.2rem 1.2rem; margin-top: 0.9rem; overflow-x: auto; font-size: 0.9rem; }
nav a { color: var(--accent); text-decoration: none; white-space: nowrap; padding: 0.2rem 0; }
nav a:hover { text-decoration: underline; }
code { font: 0.88em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere; }
code span { white-space: nowrap; }
.halo { paint-order: stroke; stroke: var(--paper); stroke-width: 3px; stroke-linejoin: round; }
section.verdict { margin-top: 1.6rem; padding: clamp(1.1rem, 3vw, 2rem); border-radius: 16px;
  background: var(--tint); }
.verdict h2 { color: var(--accent); font-size: 0.8rem; letter-spacing: 0.08em; text-transform: uppercase; }
.verdict .headline { font-size: clamp(1.15rem, 2.8vw, 1.5rem); line-height: 1.35; font-weight: 600;
  letter-spacing: -0.012em; max-width: 54rem; overflow-wrap: anywhere; text-wrap: pretty; }
.verdict ul { list-style: none; margin: 1.1rem 0 0; padding: 0; }
.verdict li { padding: 0.45rem 0; border-top: 1px solid var(--line); overflow-wrap: anywhere; }
.verdict li b { font-weight: 600; }
.verdict .intro { margin: 0.9rem 0 0; }
.note { background: var(--note); border-radius: 10px; padding: 0.65rem 0.95rem; margin: 0.8rem 0 0; font-size: 0.9rem;
  overflow-wrap: anywhere; max-width: none; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 12px; margin-top: 0.9rem;
  overscroll-behavior-x: contain; }
.scroll:focus-visible, button:focus-visible, summary:focus-visible, a:focus-visible { outline: 3px solid var(--accent);
  outline-offset: 2px; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-variant-numeric: tabular-nums;
  font-size: 0.94rem; }
th, td { padding: 0.6rem 0.55rem; text-align: right; white-space: nowrap; vertical-align: top; }
thead th { background: var(--panel); color: var(--muted); font-size: 0.8rem; font-weight: 600;
  vertical-align: bottom; white-space: normal; line-height: 1.35; }
tbody th, tbody td { border-top: 1px solid var(--line); }
th:first-child { position: sticky; left: 0; z-index: 1; min-width: 9.2rem; max-width: 18rem; text-align: left;
  background: var(--paper); white-space: normal; overflow-wrap: anywhere; font-weight: 600; }
thead th:first-child { background: var(--panel); }
tr.baseline th, tr.baseline td, tr.yardstick th, tr.yardstick td { color: var(--muted); font-weight: 400;
  padding-block: 0.35rem; }
tr.group th { padding-block: 0.8rem 0.25rem; }
tr.group th { color: var(--muted); font-size: 0.78rem; font-weight: 600; max-width: none; white-space: nowrap; }
tr.group span { position: sticky; left: 0.55rem; }
tr.group + tr > * { border-top: 0; }
td.best { color: var(--accent); font-weight: 700; }
.key { width: 0.8rem; height: 0.8rem; margin-right: 0.45rem; vertical-align: -0.06rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)); gap: 1.5rem 3rem;
  margin-top: 1rem; }
.chart { display: block; width: 100%; max-width: 31rem; height: auto; overflow: visible;
  font-family: inherit; font-variant-numeric: tabular-nums; }
.curves { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 10rem), 1fr)); gap: 1.2rem; }
.curves .chart { max-width: 16rem; }
.photos { width: fit-content; max-width: 100%; }
.grid { --least: 7.2rem; display: grid; gap: 6px; padding: 0 8px 8px;
  grid-template-columns: repeat(var(--columns), minmax(var(--least), var(--side)));
  width: fit-content; min-width: calc(var(--columns) * (var(--least) + 6px) + 10px); max-width: 100%; }
.cases { display: grid; gap: 0 1.5rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, calc(var(--columns) * 10.5rem)), 1fr)); }
.cases > div { min-width: 0; }
.grid .head { padding: 0.6rem 0.3rem 0.2rem 0; font-weight: 600; font-size: 0.88rem; line-height: 1.3; align-self: end;
  overflow-wrap: anywhere; text-wrap: balance; background: var(--paper); }
.head span { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; overflow: hidden; }
.grid .original { position: sticky; left: 0; z-index: 1; box-shadow: 6px 0 0 var(--paper), -8px 0 0 var(--paper); }
.tile { display: block; padding: 0; border: 0; background: var(--paper); cursor: zoom-in; border-radius: 5px; }
.tile img { display: block; width: 100%; height: auto; border-radius: 5px; }
.tile:hover img { opacity: 0.88; }
details { margin-top: 1rem; }
summary { cursor: pointer; color: var(--accent); font-weight: 600; font-size: 0.94rem; border-radius: 6px;
  width: fit-content; padding: 0.2rem 0; }
dl { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: 0.4rem 1.5rem; margin: 0.9rem 0 0;
  font-size: 0.92rem; }
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; max-width: 52rem; }
dialog { width: min(96vw, 1500px); max-width: none; max-height: 94vh; max-height: 94dvh; padding: 0; border: 0;
  border-radius: 16px; background: var(--paper); color: var(--ink); overflow: hidden; }
dialog[open] { display: flex; flex-direction: column; }
dialog::backdrop { background: rgb(8 10 14 / 0.72); }
dialog header { display: flex; align-items: center; gap: 0.5rem; padding: 0.8rem 1rem; flex: none;
  border-bottom: 1px solid var(--line); }
dialog h2 { flex: 1; margin: 0; font-size: 1rem; }
dialog header button { width: 2.75rem; height: 2.75rem; border: 1px solid var(--line); border-radius: 10px;
  background: var(--panel); color: var(--ink); font: inherit; cursor: pointer; }
.zoomed { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(42%, var(--side)), 1fr)); gap: 1rem;
  padding: 1rem; overflow: auto; justify-items: center; }
.zoomed figure { margin: 0; width: 100%; max-width: calc(2 * var(--side)); }
.zoomed img { display: block; width: 100%; height: auto; border-radius: 6px; }
figcaption { margin-top: 0.4rem; color: var(--muted); font-size: 0.85rem; overflow-wrap: anywhere; }
figcaption b { display: block; color: var(--ink); font-weight: 600; }
@media (max-width: 560px) {
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: 0.7rem; }
  th, td { padding: 0.5rem 0.6rem; }
  th:first-child { min-width: 7.5rem; max-width: 9rem; }
  .zoomed { gap: 0.7rem; padding: 0.7rem; }
  .grid { --least: 6.6rem; }
  .settings { grid-template-columns: minmax(0, 8.5rem) 1fr; gap: 0 1rem; }
  .settings dt { margin-bottom: 0.4rem; }
  .settings dd:has(code) { grid-column: 1 / -1; }
}
@media (min-width: 1100px) { .grid { --least: 5.8rem; } }
@media print { nav { display: none; } .tile { cursor: auto; } section { break-inside: avoid; } }
"""
