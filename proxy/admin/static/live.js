// Refreshes every element with data-live="/path" from the server, every two seconds while the
// page is seen.  Without this script the pages are the same, only not live.
"use strict";

const EVERY_MS = 2000;
const TIMEOUT_MS = 10000;
const said = document.getElementById("live-state");
const shown = new WeakMap();

function say(text) {
  if (said && said.textContent !== text) {
    said.textContent = text;
    said.hidden = text === "";
  }
}

/** Whether somebody is doing something in there that a refresh would disturb. */
function inUse(element) {
  const active = document.activeElement;
  if (active && element.contains(active) && active.matches("input, select, textarea")) {
    return true;
  }
  const selection = document.getSelection();
  return Boolean(selection && !selection.isCollapsed && selection.rangeCount &&
    selection.getRangeAt(0).intersectsNode(element));
}

/** What finds the focused element again after its surroundings were made anew. */
function place(element) {
  const active = document.activeElement;
  if (!active || active === element || !element.contains(active)) {
    return null;
  }
  if (active.id) {
    return () => document.getElementById(active.id);
  }
  const href = active.getAttribute("href");
  const same = (list) => [...list].filter((one) => one.getAttribute("href") === href);
  const index = href === null ? -1 : same(element.querySelectorAll("a")).indexOf(active);
  return index < 0 ? null : () => same(element.querySelectorAll("a"))[index];
}

function put(element, html) {
  if (shown.get(element) === html || inUse(element)) {
    return;
  }
  const find = place(element);
  const scrolled = [...element.querySelectorAll(".scroll")].map((one) => one.scrollLeft);
  shown.set(element, html);
  element.innerHTML = html;
  element.querySelectorAll(".scroll").forEach((one, i) => { one.scrollLeft = scrolled[i] || 0; });
  const again = find && find();
  if (again) {
    again.focus({ preventScroll: true });
  }
}

async function refresh(element) {
  const answer = await fetch(element.dataset.live, {
    headers: { "X-Live": "1" },
    credentials: "same-origin",
    redirect: "error",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  if (answer.status === 401) {
    say("You are signed out. Reload the page to sign in.");
    return false;
  }
  if (!answer.ok) {
    say("The database is away, or something went wrong: this is how things were.");
    return true;
  }
  const html = await answer.text();
  say("");
  put(element, html);
  return true;
}

function keep(element) {
  let timer = 0;
  let running = false;
  let over = false;
  async function turn() {
    clearTimeout(timer);
    if (running || over || document.hidden) {
      return;
    }
    running = true;
    try {
      over = !(await refresh(element));
    } catch {
      say("No answer from the proxy: this is how things were.");
    }
    running = false;
    if (!over && !document.hidden) {
      timer = setTimeout(turn, EVERY_MS);
    }
  }
  document.addEventListener("visibilitychange", turn);
  timer = setTimeout(turn, EVERY_MS);
}

document.querySelectorAll("[data-live]").forEach(keep);

// On a phone the navigation scrolls sideways: show where we are.
document.querySelectorAll("nav [aria-current]").forEach((one) => {
  const bar = one.closest("nav");
  bar.scrollLeft = one.offsetLeft - (bar.clientWidth - one.offsetWidth) / 2;
});
