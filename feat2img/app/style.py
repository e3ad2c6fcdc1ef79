"""The look of the page: gradio's theme in the report's colours, system fonts, and a little CSS."""

FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")
ACCENT = {"light": "#0b6b5f", "dark": "#5fd6c2"}  # as in the report and in the CSS below

CSS = """
.gradio-container { max-width: 1280px !important; margin: 0 auto !important; --f2i-accent: #0b6b5f; }
.dark .gradio-container, .gradio-container.dark, .dark { --f2i-accent: #5fd6c2; }
#f2i-head { margin-top: 0.8rem; }
#f2i-head h1 { font-size: clamp(1.6rem, 4.5vw, 2.3rem); line-height: 1.12; letter-spacing: -0.028em; font-weight: 700;
  margin: 0 0 0.35rem; text-wrap: balance; }
#f2i-head p { margin: 0; color: var(--body-text-color-subdued); max-width: 46rem; text-wrap: pretty; }
#f2i-controls { position: sticky; top: 1rem; align-self: flex-start; }
#f2i-photo img { object-fit: contain; }
#f2i-examples .gallery { display: grid; grid-template-columns: repeat(6, 1fr); gap: 0.45rem; }
#f2i-examples .gallery-item { aspect-ratio: 1; width: 100%; overflow: hidden; border-radius: 10px; padding: 0; }
#f2i-examples .gallery-item :is(span, .container, img) { display: block; width: 100% !important; max-width: none;
  height: 100% !important; max-height: none; object-fit: cover; border: 0; }
#f2i-head, #f2i-cards, #f2i-head .html-container, #f2i-cards .html-container { padding: 0; }
#f2i-results .form { background: transparent; border: 0; box-shadow: none; }
#f2i-wipe { border-radius: 14px; overflow: hidden; max-width: 30rem; padding: 0; margin: 0; border: 0; }
#f2i-choice { border: 0; padding: 0; background: transparent; }
#f2i-choice .wrap { gap: 0.4rem; }
.f2i-cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 10.5rem), 1fr)); }
.f2i-card { margin: 0; max-width: 19rem; border: 1px solid var(--border-color-primary);
  border-radius: 14px; overflow: hidden; background: var(--block-background-fill); }
.f2i-card img { display: block; width: 100%; aspect-ratio: 1; object-fit: cover; margin: 0; border-radius: 0; }
.f2i-card figcaption { display: flex; gap: 0.2rem 0.6rem; align-items: baseline; justify-content: space-between;
  flex-wrap: wrap; padding: 0.65rem 0.8rem 0.1rem; font-size: 0.95rem; overflow-wrap: anywhere; }
.f2i-card figcaption span { color: var(--body-text-color-subdued); font-size: 0.8rem; }
.f2i-card dl { margin: 0; padding: 0.35rem 0.8rem 0.75rem; font-variant-numeric: tabular-nums; font-size: 0.85rem; }
.f2i-card dl div { display: flex; justify-content: space-between; flex-wrap: wrap; gap: 0 0.6rem; padding: 0.16rem 0; }
.f2i-card dt { color: var(--body-text-color-subdued); }
.f2i-card dd { margin: 0; font-weight: 550; white-space: nowrap; }
.f2i-best dd { color: var(--f2i-accent); font-weight: 700; }
.f2i-card.original { border-color: var(--f2i-accent); }
.f2i-empty { border: 1.5px dashed var(--border-color-primary); border-radius: 14px;
  padding: clamp(2.5rem, 9vw, 6rem) 1rem; text-align: center; text-wrap: balance;
  color: var(--body-text-color-subdued); }
.f2i-note { margin: 0.9rem 0 0; font-size: 0.82rem; color: var(--body-text-color-subdued); overflow-wrap: anywhere; }
@media (max-width: 640px) {
  #f2i-controls { position: static; }
  .f2i-cards { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0.7rem; }
  .f2i-card { max-width: none; }
  .f2i-card.original { grid-column: 1 / -1; display: grid; grid-template: auto 1fr / 1fr 1fr; }
  .f2i-card.original img { grid-row: 1 / 3; height: 100%; }
  .f2i-card dl { font-size: 0.78rem; padding-inline: 0.6rem; }
  .f2i-card figcaption { padding-inline: 0.6rem; }
}
"""


def make_theme(gr):
    """gradio's plainest theme with the fonts and the accent of this project; nothing is fetched from elsewhere."""
    theme = gr.themes.Base(primary_hue="teal", neutral_hue="gray", radius_size="lg", font=FONTS, font_mono=MONO)
    return theme.set(
        body_background_fill="white",
        body_background_fill_dark="#14161a",
        body_text_color_subdued="#5b6472",
        body_text_color_subdued_dark="#a3abb8",
        block_background_fill="white",
        block_background_fill_dark="#1c1f25",
        color_accent=ACCENT["light"],
        slider_color=ACCENT["light"],
        slider_color_dark=ACCENT["dark"],
        button_primary_background_fill=ACCENT["light"],
        button_primary_background_fill_hover="#095a50",
        button_primary_background_fill_dark=ACCENT["light"],
        button_primary_text_color="white",
        checkbox_background_color_selected=ACCENT["light"],
        checkbox_border_color_selected=ACCENT["light"],
        block_shadow="none",
        block_border_width="1px",
    )
