// The log: a search comes to its match by itself, n and p go on from there. Without this script the links do the same.
if (!location.hash) document.querySelector(".line.hit")?.scrollIntoView({ block: "center" });

const links = { n: document.getElementById("next-match"), p: document.getElementById("previous-match") };

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable], dialog")) return;
  const link = links[event.key];
  if (!link) return;
  event.preventDefault();
  link.click();
});
