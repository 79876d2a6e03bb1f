// Keeps a page live: reads it again when the server says that something changed, counts times on,
// and copies identifiers. Without this file every page is whole, only still.
"use strict";

(() => {
  const main = document.getElementById("main");
  const told = document.getElementById("told");

  // ------------------------------------------------------------------ times

  const WORDS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  let ahead = 0; // of the chain's clock before this machine's, in seconds

  function setClock() {
    ahead = Number(main.dataset.now) - Date.now() / 1000;
  }

  // The same words as explorer/pages.py.
  function relative(seconds) {
    for (const [name, size] of WORDS) {
      const count = Math.floor(Math.abs(seconds) / size);
      if (count) {
        const words = `${count} ${name}${count === 1 ? "" : "s"}`;
        return seconds > 0 ? `in ${words}` : `${words} ago`;
      }
    }
    return "now";
  }

  function countOn() {
    const here = Date.now() / 1000;
    for (const time of document.querySelectorAll("time")) {
      const now = time.dataset.clock === "here" ? here : here + ahead;
      const text = relative(Math.trunc(Date.parse(time.dateTime) / 1000 - now));
      if (time.textContent !== text) time.textContent = text;
    }
  }

  // ------------------------------------------------------------------- copy

  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // The clipboard needs https or loopback: select the text instead, to be copied by hand.
      const code = document.querySelector(`code[title="${CSS.escape(text)}"]`);
      if (!code) return false;
      code.textContent = text;
      getSelection().selectAllChildren(code);
      return false;
    }
    return true;
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button.copy");
    if (!button) return;
    const done = await copy(button.dataset.copy);
    told.textContent = done ? `Copied ${button.dataset.copy}` : "Selected: copy it by hand";
    button.classList.toggle("done", done);
    setTimeout(() => button.classList.remove("done"), 1500);
  });

  // ------------------------------------------------------------------- live

  let reading = false;
  let again = false;
  let said = phase();

  function phase() {
    const now = document.querySelector(".now .big");
    return now ? now.textContent.trim().replace(/\s+/g, " ") : "";
  }

  async function readAgain() {
    if (reading) {
      again = true;
      return;
    }
    reading = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("main");
      if (!fresh) return;
      Idiomorph.morph(main, fresh, {
        callbacks: {
          // What a reader has unfolded stays unfolded.
          beforeAttributeUpdated: (name, node) => !(name === "open" && node.nodeName === "DETAILS"),
        },
      });
      setClock();
      countOn();
      const heading = phase().replace(/(in )?\d+ (second|minute|hour|day)s?( ago)?/g, "");
      if (heading !== said.replace(/(in )?\d+ (second|minute|hour|day)s?( ago)?/g, "")) {
        said = phase();
        told.textContent = said;
      }
    } catch {
      // The server was stopped, or is being started again: the stream tells when it is back.
    } finally {
      reading = false;
      if (again) {
        again = false;
        setTimeout(readAgain, 250);
      }
    }
  }

  let stream = null;

  function listen() {
    const path = document.body.dataset.events;
    if (!path || stream || document.hidden) return;
    stream = new EventSource(path);
    stream.addEventListener("changed", readAgain);
    stream.addEventListener("block", (event) => {
      const shown = document.getElementById("block");
      if (shown) shown.textContent = JSON.parse(event.data).block.toLocaleString("en");
    });
    stream.onopen = () => document.documentElement.classList.remove("still");
    stream.onerror = () => document.documentElement.classList.add("still");
  }

  // A browser opens few connections to one server: a page that nobody sees gives its own back.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && stream) {
      stream.close();
      stream = null;
    } else if (!document.hidden) {
      listen();
    }
  });

  document.documentElement.classList.add("live");
  setClock();
  countOn();
  setInterval(countOn, 1000);
  listen();
  // The list of federations has no stream: it is read again now and then.
  const seconds = Number(document.body.dataset.again || 0);
  if (seconds) setInterval(() => document.hidden || readAgain(), seconds * 1000);
})();
