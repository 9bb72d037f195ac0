"use strict";
// The buttons above the claims of the first page: show all, those of the usual answers, or those with one verdict.
document.addEventListener("DOMContentLoaded", () => {
  const bar = document.querySelector(".filters");
  if (!bar) return;
  const buttons = [...bar.querySelectorAll("button")];
  const choose = (chosen) => {
    const show = chosen.dataset.show;
    for (const button of buttons) button.setAttribute("aria-pressed", button === chosen);
    for (const card of document.querySelectorAll(".card")) {
      card.hidden = show === "usual" ? card.dataset.usual !== "true" : show !== "" && card.dataset.verdict !== show;
    }
    for (const list of document.querySelectorAll("ul.cards")) { // a lesson without any is left out with its heading
      list.closest("section").hidden = !list.querySelector(".card:not([hidden])");
    }
  };
  for (const button of buttons) button.addEventListener("click", () => choose(button));
  choose(buttons[0]);
  bar.hidden = false;
});
