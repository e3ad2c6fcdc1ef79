"""The page around a report's parts, for `string.Template`. It may load nothing: its policy allows inlined images."""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>$title</title>
<link rel="icon" href="data:,">
<style>$style</style>
</head>
<body>
<header>
<h1>Reconstructions from features</h1>
<p class="summary">$summary</p>
<nav aria-label="Parts of this page">$links</nav>
</header>
<main>
$sections
</main>
$dialog
<script>$script</script>
</body>
</html>
"""
