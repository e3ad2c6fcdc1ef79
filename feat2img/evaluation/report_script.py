"""The page's only script: the zoom. A photo's button opens a dialog with the original and all its reconstructions."""

SCRIPT = """
(() => {
  const dialog = document.getElementById("zoom");
  const tiles = [...document.querySelectorAll("button[data-set]")];
  let set = "", photo = 0, count = 0;

  const show = (number) => {
    const group = tiles.filter((tile) => tile.dataset.set === set);
    count = 1 + Math.max(...group.map((tile) => Number(tile.dataset.photo)));
    photo = (number + count) % count;
    const images = group.filter((tile) => Number(tile.dataset.photo) === photo).map((tile) => {
      const figure = document.createElement("figure");
      const image = tile.querySelector("img").cloneNode();
      const caption = document.createElement("figcaption");
      const title = document.createElement("b");
      title.textContent = tile.dataset.title;
      caption.append(title, tile.dataset.caption);
      figure.append(image, caption);
      return figure;
    });
    const zoomed = dialog.querySelector(".zoomed");
    zoomed.style.setProperty("--side", images[0].querySelector("img").getAttribute("width") + "px");
    zoomed.replaceChildren(...images);
    zoomed.scrollTop = 0;
    dialog.querySelector("h2").textContent = `Photo ${photo + 1} of ${count}`;
  };

  for (const tile of tiles) {
    tile.addEventListener("click", () => {
      set = tile.dataset.set;
      show(Number(tile.dataset.photo));
      dialog.showModal();
      document.documentElement.classList.add("zooming");
    });
  }
  dialog.addEventListener("close", () => document.documentElement.classList.remove("zooming"));
  dialog.querySelector(".previous").addEventListener("click", () => show(photo - 1));
  dialog.querySelector(".next").addEventListener("click", () => show(photo + 1));
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(photo - 1);
    if (event.key === "ArrowRight") show(photo + 1);
  });
})();
"""

DIALOG = """<dialog id="zoom" aria-labelledby="zoom-title">
<header>
<h2 id="zoom-title">Photo</h2>
<button type="button" class="previous" aria-label="Previous photo">←</button>
<button type="button" class="next" aria-label="Next photo" autofocus>→</button>
<button type="button" class="close" aria-label="Close">✕</button>
</header>
<div class="zoomed"></div>
</dialog>"""
