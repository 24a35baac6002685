"use strict";
// Copy buttons, working offline and without a secure context, and pixels shown as pixels. The page asks for news by htmx.
(() => {
  const SHOWN_MS = 1400;
  const SMALL_PX = 200;

  async function copy(text) {
    if (navigator.clipboard && window.isSecureContext) {
      await navigator.clipboard.writeText(text);
      return;
    }
    const area = document.createElement("textarea");
    area.value = text;
    area.setAttribute("readonly", "");
    area.style.position = "fixed";
    area.style.opacity = "0";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) throw new Error("the browser refused to copy");
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    event.preventDefault();
    let state = "copied";
    try {
      await copy(button.dataset.copy);
    } catch {
      state = "refused";
    }
    button.dataset.state = state;
    setTimeout(() => delete button.dataset.state, SHOWN_MS);
  });

  // A picture of few pixels is shown as it is, not smeared over the card. Load events don't bubble: capture them.
  document.addEventListener("load", ({ target }) => {
    if (target.matches?.(".ts-picture img")) target.classList.toggle("ts-few-pixels", target.naturalWidth < SMALL_PX);
  }, true);
})();
