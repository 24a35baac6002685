"use strict";
// Copy buttons, working offline and without a secure context. Nothing else: the page asks for news by htmx.
(() => {
  const SHOWN_MS = 1400;

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
})();
