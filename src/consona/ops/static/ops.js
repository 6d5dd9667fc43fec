// Live updates of a page that is whole without them. What arrives is merged into what is shown: an
// element that stays keeps its focus, its selection and its open state.
"use strict";

(() => {
  const address = document.body.dataset.stream;
  if (!address || !window.EventSource) return;
  const pause = document.getElementById("pause");
  const say = document.getElementById("say");
  const said = document.getElementById("said");
  const word = document.getElementById("live-word");
  const time = document.getElementById("live-time");
  const SAY_EVERY_MS = 30000;
  const LOST_AFTER_MS = 4000;
  let source = null;
  let paused = false;
  let lastState = stateNow();
  let lastSaid = Date.now();

  pause.hidden = say.hidden = false;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    follow();
  });
  say.addEventListener("click", () => tell());
  document.addEventListener("visibilitychange", follow);
  window.addEventListener("pagehide", stop);
  window.addEventListener("pageshow", follow);
  follow();

  function follow() {
    if (paused || document.hidden) {
      stop();
      word.textContent = paused ? "Paused, state" : "State";
    } else if (!source) {
      source = new EventSource(address);
      source.addEventListener("update", (event) => update(JSON.parse(event.data)));
      source.addEventListener("open", () => { word.textContent = "Live, state"; });
      source.addEventListener("error", () => setTimeout(lost, LOST_AFTER_MS)); // a new connection may be near
    }
  }

  function lost() {
    if (!source || source.readyState === EventSource.OPEN) return;
    const over = source.readyState === EventSource.CLOSED;
    word.textContent = over ? "Not live, use Refresh; state" : "Connection lost, trying again; state";
  }

  function stop() {
    if (source) source.close();
    source = null;
  }

  function update(news) {
    time.textContent = news.time;
    time.dateTime = news.datetime;
    for (const [name, html] of Object.entries(news.regions)) {
      const region = document.querySelector(`[data-region="${name}"]`);
      if (!region) continue;
      const fresh = document.createElement("template");
      fresh.innerHTML = html;
      merge(region, fresh.content);
    }
    // A change of the state is told politely, and seldom; figures change all the time and are not told.
    if (stateNow() !== lastState && Date.now() - lastSaid > SAY_EVERY_MS) tell();
  }

  function stateNow() {
    const heading = document.querySelector(".health h1");
    return heading ? heading.textContent.trim() : "";
  }

  function tell() {
    const text = document.querySelector(".say");
    lastState = stateNow();
    lastSaid = Date.now();
    said.textContent = "";
    if (text) setTimeout(() => { said.textContent = text.textContent.trim(); }, 50);
  }

  // Make the children of `old` those of `fresh`, keeping every element that can stay.
  function merge(old, fresh) {
    const keyed = new Map();
    for (const child of old.children) if (child.dataset && child.dataset.key) keyed.set(child.dataset.key, child);
    let at = old.firstChild;
    for (const wanted of [...fresh.childNodes]) {
      const key = wanted.dataset && wanted.dataset.key;
      let match = key ? keyed.get(key) : at && !(at.dataset && at.dataset.key) && alike(at, wanted) ? at : null;
      if (match) {
        keyed.delete(key);
        if (match !== at && !match.contains(document.activeElement)) old.insertBefore(match, at);
        if (match === at) at = at.nextSibling;
        mergeNode(match, wanted);
      } else {
        old.insertBefore(wanted, at);
      }
    }
    while (at) {
      const next = at.nextSibling;
      // What has the focus stays until the focus leaves it, so that it is not thrown to the top of the page.
      if (!at.contains(document.activeElement)) at.remove();
      at = next;
    }
  }

  function alike(one, other) {
    return one.nodeType === other.nodeType && one.nodeName === other.nodeName;
  }

  function mergeNode(old, fresh) {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    if (old.isEqualNode(fresh)) return;
    if (old.nodeName === "FORM") return; // choices under way are the user's
    for (const { name, value } of [...fresh.attributes]) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && !(old.nodeName === "DETAILS" && name === "open")) old.removeAttribute(name);
    }
    merge(old, fresh);
  }
})();
