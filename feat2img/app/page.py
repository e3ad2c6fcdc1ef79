"""The gradio page of the app."""

import tempfile
import traceback
from pathlib import Path

from .cards import render_empty, render_results
from .studio import Reconstructed, Studio
from .style import CSS, make_theme

MISSING = "the app needs gradio, which is not installed: pip install 'feat2img[app]'"
KEEP_SECONDS = 3600  # uploaded photos and results
MAX_FILE_SIZE = "50mb"
MAX_STEPS = 50
MAX_SAMPLES = 4
MAX_GUIDANCE = 5.0
EXAMPLES = ("astronaut", "chelsea", "coffee", "rocket", "stereo_motorcycle", "hubble_deep_field")


def import_gradio():
    """gradio. Raises ImportError with one line when it is not installed."""
    try:
        import gradio
    except ImportError as error:
        raise ImportError(MISSING) from error
    return gradio


def launch(
    pipelines: list[str],
    host: str | None = None,
    port: int | None = None,
    device: str | None = None,
    dtype: str = "float32",
    open_browser: bool = False,
) -> None:
    """Load the pipelines and serve the page until the process is interrupted.

    Args:
        host, port: where to listen; None leaves it to gradio: 127.0.0.1, the first free port from 7860.
        device, dtype: as for `Studio`.
        open_browser: also open the page in a browser on this machine.
    """
    gr = import_gradio()
    studio = Studio(pipelines, device, dtype)
    studio.warm_up()
    page = build_page(studio)
    page.launch(
        server_name=host,
        server_port=port,
        inbrowser=open_browser,
        share=False,
        ssr_mode=False,
        max_file_size=MAX_FILE_SIZE,
        footer_links=[],
        theme=make_theme(gr),
        css=CSS,
        quiet=True,
        prevent_thread_lock=True,
    )
    print(f"the app runs at {page.local_url} (Ctrl-C ends it)", flush=True)
    page.block_thread()


def build_page(studio: Studio):
    """The page as `gradio.Blocks`; `launch` serves it with its theme and CSS."""
    gr = import_gradio()
    answer = make_answer(gr, studio)

    def check(photo: str | None) -> str | None:
        if photo is not None:
            try:
                studio.check(photo)
            except ValueError as error:
                raise_message(gr, error)
        return photo

    cache = (KEEP_SECONDS, KEEP_SECONDS)  # looked through every so often, what is older is deleted
    with gr.Blocks(title="feat2img", analytics_enabled=False, fill_width=True, delete_cache=cache) as page:
        results = gr.State([], time_to_live=KEEP_SECONDS)
        gr.HTML(
            "<h1>What is left of a photo?</h1><p>A network has looked at it and kept only its features. "
            "Each decoder paints the photo again from those features alone.</p>",
            elem_id="f2i-head",
        )
        with gr.Row():
            with gr.Column(scale=4, min_width=300, elem_id="f2i-controls"):
                photo, examples = photo_inputs(gr)
                settings = decoder_inputs(gr, studio)
                button = gr.Button("Reconstruct", variant="primary", size="lg", elem_id="f2i-run")
            with gr.Column(scale=8, min_width=300, elem_id="f2i-results"):
                cards = gr.HTML(render_empty(), elem_id="f2i-cards")
                choice = gr.Radio([], label="Wipe between the original and", visible=False, elem_id="f2i-choice")
                wipe = gr.ImageSlider(
                    visible=False,
                    interactive=False,
                    show_label=False,
                    format="png",
                    max_height=480,
                    elem_id="f2i-wipe",
                    buttons=["download", "fullscreen"],
                )
        run = dict(
            fn=answer,
            inputs=[photo, *settings],
            outputs=[results, choice, wipe, cards],
            show_progress_on=cards,
            concurrency_id="decode",
            concurrency_limit=1,
        )
        button.click(**run, api_name="reconstruct")
        photo.upload(check, photo, photo, show_progress="hidden", api_visibility="private").success(
            **run, api_visibility="private"
        )
        if examples is not None:
            examples.load_input_event.success(**run, api_visibility="private")
        choice.input(wipe_images, [results, choice], wipe, show_progress="hidden", api_visibility="private")
    return page


def make_answer(gr, studio: Studio):
    """What the button calls: settings => results, the choices of the wipe, the wipe, the cards."""

    def answer(photo, names, steps, samples, guidance, seed, progress=gr.Progress()):  # noqa: B008 (gradio's way)
        if photo is None:
            raise gr.Error("drop in a photo or choose an example", title="No photo", print_exception=False)
        made: list[Reconstructed] = []
        try:
            options = dict(num_inference_steps=int(steps), num_samples=int(samples), guidance_scale=float(guidance))
            for result in studio.reconstruct(
                photo, names, seed=int(seed or 0), progress=lambda share, text: progress(share, desc=text), **options
            ):
                made.append(result)
        except Exception as error:  # whatever went wrong is shown as a message, never as a broken page
            raise_message(gr, error)
        titles = [result.title for result in made]
        return (
            made,
            gr.Radio(titles, value=titles[0], visible=True),
            gr.ImageSlider((made[0].original, made[0].image), visible=True),
            render_results(made, studio.left_out),
        )

    return answer


def wipe_images(results: list[Reconstructed], title: str):
    """Original and reconstruction of the chosen result."""
    chosen = next((result for result in results if result.title == title), None)
    return None if chosen is None else (chosen.original, chosen.image)


def raise_message(gr, error: Exception):
    """Raise `error` as a message on the page; what nobody expected goes to the terminal in full as well."""
    if not isinstance(error, (ValueError, OSError)):
        traceback.print_exception(error)
    if type(error).__name__ == "OutOfMemoryError":
        raise gr.Error("the device is out of memory: choose fewer decoders", print_exception=False) from error
    message = " ".join(str(error).split()) or type(error).__name__
    raise gr.Error(message, title="That did not work", print_exception=False) from error


def photo_inputs(gr):
    """The photo, and examples where scikit-image is installed (else None)."""
    photo = gr.Image(
        label="Photo",
        type="filepath",
        image_mode=None,
        sources=["upload", "clipboard"],
        height=300,
        buttons=[],
        elem_id="f2i-photo",
    )
    # The file as it was uploaded: gradio would open it first and fail on a broken one without saying what is wrong.
    own_preprocess = photo.preprocess
    photo.preprocess = lambda payload: payload.path if payload and payload.path else own_preprocess(payload)
    paths = example_photos()
    if not paths:
        return photo, None
    with gr.Column(elem_id="f2i-examples"):
        examples = gr.Examples([[path] for path in paths], photo, label="Examples", examples_per_page=len(paths))
    return photo, examples


def decoder_inputs(gr, studio: Studio) -> list:
    """Decoders, steps, samples, guidance, seed; what only sampling pipelines know is hidden without one."""
    own = studio.steps
    decoders = gr.CheckboxGroup(studio.names, value=studio.names, label="Decoders", elem_id="f2i-decoders")
    with gr.Group(visible=bool(own)) as sampling:
        steps = gr.Slider(
            1, max([MAX_STEPS, *own.values()]), value=next(iter(own.values()), 1), step=1, label="Steps",
            info="of the diffusion decoders", elem_id="f2i-steps",
        )  # fmt: skip
        samples = gr.Slider(1, MAX_SAMPLES, value=1, step=1, label="Samples", elem_id="f2i-samples")
        with gr.Accordion("More", open=False):
            guidance = gr.Slider(
                1, MAX_GUIDANCE, value=1, step=0.1, label="Guidance", info="1 is off; more doubles the time"
            )
            seed = gr.Number(0, label="Seed", precision=0, minimum=0)
    decoders.change(
        lambda names: gr.Group(visible=any(name in own for name in names)), decoders, sampling,
        show_progress="hidden", api_visibility="private",
    )  # fmt: skip
    return [decoders, steps, samples, guidance, seed]


def example_photos() -> list[str]:
    """Photographs of scikit-image as files; none where it is not installed."""
    try:
        import skimage.data
    except ImportError:
        return []
    from PIL import Image

    folder = Path(tempfile.mkdtemp(prefix="feat2img-examples-"))
    for name in EXAMPLES:
        photo = getattr(skimage.data, name)()
        Image.fromarray(photo[0] if isinstance(photo, tuple) else photo).save(folder / f"{name}.png")
    return [str(folder / f"{name}.png") for name in EXAMPLES]
