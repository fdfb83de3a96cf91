// Live pages and the colour switch. Without this script every page works; it only refreshes itself no more.
const parts = () => [...document.querySelectorAll("[data-part]")];
const shown = new Map(parts().map((part) => [part.id, part.outerHTML]));

/* Fetch this page's live parts. A document from XMLHttpRequest is inert, and no sink of Trusted Types. */
let fetching = false;
let again = false;
function refresh() {
  if (fetching) {
    again = true;
    return;
  }
  fetching = true;
  const request = new XMLHttpRequest();
  request.open("GET", location.pathname + location.search);
  request.setRequestHeader("Heal-Fragment", "live");
  request.responseType = "document";
  request.onload = () => {
    if (request.status === 200 && request.response) parts().forEach((part) => renew(part, request.response));
  };
  request.onloadend = () => {
    fetching = false;
    if (again) {
      again = false;
      refresh();
    }
  };
  request.send();
}

function renew(old, page) {
  const fresh = page.getElementById(old.id);
  if (!fresh || shown.get(old.id) === fresh.outerHTML) return;
  shown.set(old.id, fresh.outerHTML);
  const versions = new Set([...old.querySelectorAll("[data-version]")].map((row) => row.dataset.version));
  const open = [...old.querySelectorAll("details[open][id]")].map((details) => details.id);
  const ticked = [...old.querySelectorAll("input[type=checkbox][id]:checked")].map((box) => box.id);
  const row = old.querySelector("[data-row].current")?.id;
  const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
  old.replaceWith(document.adoptNode(fresh));
  open.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
  ticked.forEach((id) => fresh.querySelector(`#${CSS.escape(id)}`)?.setAttribute("checked", ""));
  if (row) document.getElementById(row)?.classList.add("current");
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  fresh.querySelectorAll("[data-version]").forEach((row) => {
    if (!versions.has(row.dataset.version)) row.classList.add("fresh");
  });
  document.dispatchEvent(new CustomEvent("heal:renewed"));
}

/* Server-sent events, closed while nobody looks: a browser allows six connections to a host, for all tabs together. */
const live = document.getElementById("live");
let source = null;
let timer = 0;

function mark(state) {
  live.hidden = false;
  live.dataset.live = state;
  live.setAttribute("aria-pressed", String(state !== "paused"));
  live.querySelectorAll("[data-when]").forEach((word) => (word.hidden = word.dataset.when !== state));
}

function listen() {
  clearTimeout(timer);
  source?.close();
  source = new EventSource("/events");
  source.onopen = () => {
    clearTimeout(timer);
    mark("live");
    refresh();
  };
  source.addEventListener("change", refresh);
  source.onerror = () => {
    const gone = source.readyState === EventSource.CLOSED;
    clearTimeout(timer);
    timer = setTimeout(() => {
      mark("lost");
      if (gone) listen();
    }, 4000);
  };
}

function settle() {
  if (sessionStorage.getItem("paused") || document.hidden) {
    clearTimeout(timer);
    source?.close();
    source = null;
    if (!document.hidden) mark("paused");
  } else if (!source) {
    listen();
  }
}

if (live && "EventSource" in window) {
  live.addEventListener("click", () => {
    if (sessionStorage.getItem("paused")) sessionStorage.removeItem("paused");
    else sessionStorage.setItem("paused", "1");
    settle();
  });
  document.addEventListener("visibilitychange", settle);
  window.addEventListener("pagehide", () => source?.close());
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) {
      source = null;
      settle();
    }
  });
  settle();
}

/* Colours: as the system, light, dark. The cookie lets the server draw the next page right from the start. */
const colors = document.getElementById("colors");
if (colors) {
  const modes = ["auto", "light", "dark"];
  const root = document.documentElement;
  const draw = () =>
    colors.querySelectorAll("[data-mode]").forEach((face) => (face.hidden = face.dataset.mode !== root.dataset.colorMode));
  colors.hidden = false;
  colors.addEventListener("click", () => {
    root.dataset.colorMode = modes[(modes.indexOf(root.dataset.colorMode) + 1) % modes.length];
    document.cookie = `color_mode=${root.dataset.colorMode}; path=/; max-age=31536000; samesite=lax`;
    draw();
  });
  draw();
}

/* Rows by keyboard: j and k move, Enter opens; / searches, ? helps, g and a letter go elsewhere. */
const rows = () => [...document.querySelectorAll("[data-row]")];
let going = false;

function typing(target) {
  return target.closest("input:not([type=checkbox]), textarea, select, [contenteditable], dialog") !== null;
}

export function current() {
  return document.querySelector("[data-row].current");
}

function step(by) {
  const all = rows();
  if (!all.length) return;
  const at = all.indexOf(current());
  const next = all[Math.min(all.length - 1, Math.max(0, at < 0 ? 0 : at + by))];
  current()?.classList.remove("current");
  next.classList.add("current");
  next.scrollIntoView({ block: "nearest" });
  (next.querySelector("a") ?? next.querySelector("button, input"))?.focus({ preventScroll: true });
}

const places = { i: "/", a: "/approvals", r: "/repositories", m: "/models", d: "/deliveries", s: "/settings" };

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
  if (going) {
    going = false;
    if (places[event.key]) location.assign(places[event.key]);
    return;
  }
  const help = document.getElementById("shortcuts");
  if (event.key === "?" && help) help.showModal();
  else if (event.key === "g") going = true;
  else if (event.key === "j") step(1);
  else if (event.key === "k") step(-1);
  else if (event.key === "/") document.querySelector("input[type=search]")?.focus();
  else return;
  event.preventDefault();
});

const keys = document.getElementById("keys");
if (keys) {
  keys.hidden = false;
  keys.addEventListener("click", () => document.getElementById("shortcuts").showModal());
}

/* One menu at a time, closed by Escape and by a click elsewhere. */
document.addEventListener("click", (event) => {
  document.querySelectorAll("details.menu[open]").forEach((menu) => {
    if (!menu.contains(event.target)) menu.open = false;
  });
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  document.querySelectorAll("details.menu[open]").forEach((menu) => {
    menu.open = false;
    menu.querySelector("summary").focus();
  });
});

/* The language changes as soon as it is chosen; the time zone is the browser's, until one is chosen in the settings. */
const language = document.getElementById("language");
if (language) {
  language.form.querySelector("button").hidden = true;
  language.form.elements.onwards.value = location.pathname + location.search;
  language.addEventListener("change", () => language.form.requestSubmit());
}
if (!document.cookie.includes("time_zone=")) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  document.cookie = `time_zone=${encodeURIComponent(zone)}; path=/; max-age=31536000; samesite=lax`;
}
