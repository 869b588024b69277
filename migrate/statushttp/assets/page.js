// Keeps the page up to date: asks for it again and takes over what is different, so
// that the bar moves and what was selected or focused stays.
"use strict";

const contact = document.getElementById("contact");
const main = () => document.querySelector("main");

function update(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh.cloneNode(true));
    return;
  }
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const before = [...old.childNodes], after = [...fresh.childNodes];
  after.forEach((node, i) => {
    if (i < before.length) update(before[i], node);
    else old.append(node.cloneNode(true));
  });
  before.slice(after.length).forEach((node) => node.remove());
}

async function refresh() {
  try {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(10000) });
    if (!answer.ok) throw new Error(answer.statusText);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    update(main(), fresh.querySelector("main"));
    document.title = fresh.title;
    contact.hidden = true;
  } catch {
    contact.hidden = false;
  }
}

let timer;
async function loop() {
  clearTimeout(timer);
  if (!document.hidden) await refresh();
  clearTimeout(timer);
  timer = setTimeout(loop, 1000 * main().dataset.refresh);
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) loop(); });
timer = setTimeout(loop, 1000 * main().dataset.refresh);
