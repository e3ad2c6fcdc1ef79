"""The page around a report's parts, for `string.Template`."""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Reconstructions from features</title>
<link rel="icon" href="data:,">
<style>
:root {
  color-scheme: light dark;
  --paper: #ffffff; --panel: #f6f7f9; --ink: #1c1e22; --muted: #5f6670; --line: #e2e5ea;
  --accent: #0b6e4f; --accent-paper: #e7f4ee; --note: #fff7e0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15171b; --panel: #1d2025; --ink: #e8eaee; --muted: #9aa2ae; --line: #31353d;
    --accent: #6fd3ac; --accent-paper: #17342a; --note: #332b14;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; max-width: 1240px; padding: 2rem clamp(1rem, 4vw, 2.5rem) 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
h1 { font-size: clamp(1.5rem, 4vw, 2.1rem); line-height: 1.2; letter-spacing: -0.02em; margin: 0 0 0.3rem; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 0.8rem; }
p { margin: 0 0 0.8rem; }
small { display: block; color: var(--muted); font-size: 0.78rem; font-weight: 400; }
.summary { color: var(--muted); }
.note { background: var(--note); border-radius: 8px; padding: 0.6rem 0.9rem; margin: 0.8rem 0 0; font-size: 0.9rem;
  overflow-wrap: anywhere; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 12px; }
.photos { width: fit-content; max-width: 100%; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 0.6rem 0.9rem; text-align: right; white-space: nowrap; vertical-align: top; }
thead th { background: var(--panel); color: var(--muted); font-size: 0.82rem; font-weight: 600;
  vertical-align: bottom; }
tbody th, tbody td { border-top: 1px solid var(--line); }
th:first-child { position: sticky; left: 0; min-width: 8.5rem; max-width: 24rem; text-align: left;
  background: var(--paper); white-space: normal; overflow-wrap: anywhere; font-weight: 600; }
thead th:first-child { background: var(--panel); }
tr.baseline th, tr.baseline td { color: var(--muted); }
tbody tr td.best { color: var(--accent); font-weight: 700; }
.grid { display: grid; grid-template-columns: repeat(var(--columns), minmax(7.5rem, var(--side)));
  gap: 6px; padding: 0 8px 8px; min-width: calc(var(--columns) * (7.5rem + 6px) + 10px); }
.grid > div { background: var(--paper); }
.grid .head { padding: 0.6rem 0 0.2rem; font-weight: 600; font-size: 0.9rem; overflow-wrap: anywhere; }
.grid .original { position: sticky; left: 0; z-index: 1; box-shadow: 6px 0 0 var(--paper), -8px 0 0 var(--paper); }
.grid img { display: block; width: 100%; height: auto; border-radius: 4px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.35rem 1.2rem; margin: 0; font-size: 0.92rem; }
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 560px) {
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: 0.6rem; }
  th, td { padding: 0.5rem 0.6rem; }
}
</style>
</head>
<body>
<h1>Reconstructions from features</h1>
<p class="summary">$summary</p>
<div class="scroll" tabindex="0" role="region" aria-label="Scores"><table>$table</table></div>
$notes
<h2>The first photos</h2>
<div class="scroll photos" tabindex="0" role="region" aria-label="Photos">$grid</div>
<h2>What the columns mean</h2>
<dl>$metrics</dl>
<h2>Settings</h2>
<dl>$settings</dl>
</body>
</html>
"""
