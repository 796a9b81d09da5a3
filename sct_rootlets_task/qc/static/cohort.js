/* The cohort page: the theme that was chosen in the list, and a button that copies the methods. */
(() => {
  "use strict";
  try {
    document.documentElement.dataset.theme = localStorage.getItem("sct_rootlets_qc/theme") || "auto";
  } catch {
    /* As the browser says. */
  }
  for (const button of document.querySelectorAll("[data-copy]")) {
    const source = document.getElementById(button.dataset.copy);
    button.hidden = false;
    button.addEventListener("click", () => {
      const range = document.createRange();
      range.selectNodeContents(source);
      const selection = getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      button.textContent = document.execCommand("copy") ? "Copied" : "Selected: press Ctrl+C";
    });
  }
})();
