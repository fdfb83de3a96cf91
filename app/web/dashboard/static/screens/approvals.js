// Deciding by keyboard: a approves and asks once more, r rejects with a reason, x selects, u takes the selection back.
// Without this script all of it is done by the buttons of the page.
const current = () => document.querySelector("[data-row].current");
const chosen = () => [...document.querySelectorAll("input[name=id]:checked")];

function decide(verb) {
  if (chosen().length) {
    document.getElementById(`bulk-${verb}`).click();
    return true;
  }
  const number = current()?.id.replace("incident-", "");
  const details = number && document.getElementById(`${verb}-${number}`);
  if (!details) return false;
  const sure = details.querySelector("[data-sure]");
  if (details.open && sure && document.activeElement === sure) {
    sure.click();
    return true;
  }
  details.open = true;
  details.querySelector("[data-sure], input.input").focus();
  return true;
}

function takeBack() {
  chosen().forEach((box) => (box.checked = false));
  document.querySelectorAll(".decision[open]").forEach((details) => (details.open = false));
  current()?.querySelector("a")?.focus({ preventScroll: true });
  return true;
}

function choose() {
  const box = current()?.querySelector("input[type=checkbox]");
  if (!box) return false;
  box.checked = !box.checked;
  return true;
}

const keys = { a: () => decide("approve"), r: () => decide("reject"), x: choose, u: takeBack };
let going = false;

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && event.target.closest(".decision")) takeBack();
  if (event.target.closest("input:not([type=checkbox]), textarea, select, dialog")) return;
  // g and a letter lead elsewhere (dashboard.js)
  const elsewhere = going;
  going = event.key === "g";
  if (!elsewhere && keys[event.key]?.()) event.preventDefault();
});
