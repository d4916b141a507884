// Keeps a page true: when the hub says that something happened, the parts marked with data-fresh are read again.
// Everything works without this file; pages are then as old as their last loading.
"use strict";
(() => {
  const source = document.body.dataset.live;
  const stale = document.getElementById("stale");
  let timer = 0, due = 0, busy = false, again = false;

  async function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { headers: { "x-live": "1" }, credentials: "same-origin" });
      if (answer.redirected && new URL(answer.url).pathname === "/login") { location.reload(); return; }
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const old of document.querySelectorAll("[data-fresh]")) {
        const now = page.getElementById(old.id);
        // What somebody is typing in, or has opened, is left alone.
        if (!now || old.innerHTML === now.innerHTML || old.contains(document.activeElement)) continue;
        const open = new Set([...old.querySelectorAll("details[open][id]")].map((it) => it.id));
        old.innerHTML = now.innerHTML;
        for (const it of old.querySelectorAll("details[id]")) if (open.has(it.id)) it.open = true;
        old.dataset.fresh = String(Date.now());
      }
    } catch { /* the event source says when the hub is gone */ } finally {
      busy = false;
      if (again) { again = false; soon(); } else complete();
    }
  }
  // A page that does not have all its stores yet says after how many ms it wants to be read again.
  function complete() {
    const part = document.querySelector("[data-again]");
    if (part) within(Number(part.dataset.again));
  }
  // What was to come sooner stays: where something happens all the time, a page must not wait until nothing does.
  function within(ms) {
    const at = Date.now() + ms;
    if (due > Date.now() && due <= at) return;
    clearTimeout(timer);
    due = at;
    timer = setTimeout(refresh, ms);
  }
  function soon() { within(250); }

  if (source) {
    complete();
    const events = new EventSource(source);
    events.addEventListener("change", soon);
    events.onopen = () => { if (stale && !stale.hidden) { stale.hidden = true; soon(); } };
    // Closed for good means that the session has ended: reading the page again leads to the log-in.
    events.onerror = () => { if (events.readyState === EventSource.CLOSED) soon(); else if (stale) stale.hidden = false; };
    setInterval(() => { if (!document.hidden) refresh(); }, Number(document.body.dataset.every) || 30000);
  }

  // A second tap on a form that is on its way does nothing.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post") return;
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "1";
    setTimeout(() => { delete form.dataset.sent; }, 4000);
  });
  // Filters act at once.
  document.addEventListener("change", (event) => {
    const form = event.target.form;
    if (form && form.classList.contains("filters") && event.target.tagName === "SELECT") form.requestSubmit();
  });
  // Lists by keyboard: j and k go down and up, / goes to the search.
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") {
      const search = document.querySelector("input[type=search]");
      if (search) { event.preventDefault(); search.focus(); }
    }
    if (event.key !== "j" && event.key !== "k") return;
    const rows = [...document.querySelectorAll("[data-row] a")];
    const at = rows.indexOf(document.activeElement);
    const next = rows[at < 0 ? 0 : at + (event.key === "j" ? 1 : -1)];
    if (next) { event.preventDefault(); next.focus(); }
  });
})();
