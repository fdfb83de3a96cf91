// Turns the checklist green while one looks at it. Without this script the page has a link that does.
const EVERY_MS = 3000;
const shown = new Map();

function renew(part, page) {
  const fresh = page.getElementById(part.id);
  if (!fresh || shown.get(part.id) === fresh.outerHTML) return;
  shown.set(part.id, fresh.outerHTML);
  const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
  part.replaceWith(document.adoptNode(fresh));
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

function ask() {
  if (document.hidden) return;
  const request = new XMLHttpRequest(); // a document from it is inert, and no sink of Trusted Types
  request.open("GET", "/setup");
  request.setRequestHeader("Heal-Fragment", "live");
  request.responseType = "document";
  request.onload = () => {
    if (request.status !== 200 || !request.response) return;
    document.querySelectorAll("[data-part]").forEach((part) => renew(part, request.response));
  };
  request.send();
}

document.querySelectorAll("[data-part]").forEach((part) => shown.set(part.id, part.outerHTML));
setInterval(ask, EVERY_MS);
document.addEventListener("visibilitychange", ask);
