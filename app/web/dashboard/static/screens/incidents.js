// Choosing rows: all of a page at once, and by keyboard. Without this script each row has its own box to tick.
const boxes = () => [...document.querySelectorAll(".chosen-row input[type=checkbox]")];

function settle() {
  const page = document.getElementById("choose-page");
  if (!page) return;
  page.hidden = false;
  const all = boxes();
  const chosen = all.filter((box) => box.checked).length;
  const whole = document.getElementById("choose-all");
  whole.checked = chosen > 0 && chosen === all.length;
  whole.indeterminate = chosen > 0 && chosen < all.length;
}

document.addEventListener("change", (event) => {
  if (event.target.id === "choose-all") boxes().forEach((box) => (box.checked = event.target.checked));
  settle();
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "x" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input:not([type=checkbox]), textarea, select, dialog")) return;
  const box = document.querySelector("[data-row].current input[type=checkbox]");
  if (!box) return;
  box.checked = !box.checked;
  settle();
  event.preventDefault();
});

document.addEventListener("heal:renewed", settle);
settle();
