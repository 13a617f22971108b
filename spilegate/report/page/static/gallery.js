"use strict";
// Classes and patterns are kept or dropped by clicks; what is kept becomes a list of numbers.
(() => {
  const element = (id) => document.getElementById(id);
  const data = JSON.parse(element("gallery-data").textContent);
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const kept = bytes(data.kept);
  const member = new (data.wide ? Int32Array : Int16Array)(bytes(data.member).buffer);
  const steps = bytes(data.diameter);
  const [low, high] = data.diameter_range;
  const NONE = 255;
  const key = `spilegate ${data.source} ${kept.length}`;
  // Of each class: "proposed", "all" or "none"; of single patterns: true or false, before what their class says.
  let choice = {};
  let single = {};

  function diameter(i) {
    return low * Math.exp((steps[i] / (NONE - 1)) * Math.log(high / low || 1));
  }

  function initial(k) {
    const proposed = document.querySelector(`[data-class="${k}"] [data-choice="proposed"]`);
    return proposed.disabled ? "none" : "proposed";
  }

  function chosen(i, smallest, largest) {
    if (i in single) return single[i];
    // What is not known rules nothing out; a step of the scale is as good as the number itself.
    const step = Math.pow(high / low || 1, 0.5 / (NONE - 1));
    if (steps[i] !== NONE && (diameter(i) * step < smallest || diameter(i) / step > largest)) return false;
    const of = member[i] < 0 ? "proposed" : choice[member[i]];
    return of === "all" || (of === "proposed" && kept[i] === 1);
  }

  function list() {
    const smallest = element("smallest") ? Number(element("smallest").value) || 0 : 0;
    const largest = element("largest") ? Number(element("largest").value) || Infinity : Infinity;
    const found = [];
    for (let i = 0; i < kept.length; i++) if (chosen(i, smallest, largest)) found.push(i);
    return found;
  }

  function show() {
    const found = list();
    const among = new Set(found);
    element("chosen").textContent = `${found.length} of ${kept.length} patterns chosen`;
    element("save").disabled = found.length === 0;
    for (const card of document.querySelectorAll("[data-class]")) {
      const of = choice[card.dataset.class];
      card.classList.toggle("dropped", of === "none");
      for (const button of card.querySelectorAll("[data-choice]")) {
        button.setAttribute("aria-pressed", String(button.dataset.choice === of));
      }
    }
    for (const button of document.querySelectorAll("[data-pattern]")) {
      button.setAttribute("aria-pressed", String(among.has(Number(button.dataset.pattern))));
    }
    // Where nothing may be stored, the choice lasts as long as the page.
    try { localStorage.setItem(key, JSON.stringify({ choice, single })); } catch { return; }
  }

  function reset() {
    choice = {};
    single = {};
    for (const card of document.querySelectorAll("[data-class]")) choice[card.dataset.class] = initial(card.dataset.class);
  }

  function choose(k, what) {
    choice[k] = what;
    // What is said of a class is said of all of its patterns.
    for (const i of Object.keys(single)) if (member[i] === Number(k)) delete single[i];
    show();
  }

  for (const card of document.querySelectorAll("[data-class]")) {
    const k = card.dataset.class;
    card.querySelector(".picture").addEventListener("click", () => {
      choose(k, choice[k] !== "none" ? "none" : initial(k) === "none" ? "all" : "proposed");
    });
    for (const button of card.querySelectorAll("[data-choice]")) {
      button.addEventListener("click", () => choose(k, button.dataset.choice));
    }
  }
  for (const button of document.querySelectorAll("[data-pattern]")) {
    button.addEventListener("click", () => {
      single[button.dataset.pattern] = button.getAttribute("aria-pressed") !== "true";
      show();
    });
  }
  for (const id of ["smallest", "largest"]) if (element(id)) element(id).addEventListener("input", show);
  element("reset").addEventListener("click", () => {
    reset();
    for (const id of ["smallest", "largest"]) if (element(id)) element(id).value = element(id).defaultValue;
    show();
  });
  element("save").addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([list().map((i) => `${i}\n`).join("")], { type: "text/plain" }));
    link.download = "selected.txt";
    link.click();
    URL.revokeObjectURL(link.href);
  });

  reset();
  try {
    const stored = JSON.parse(localStorage.getItem(key)) || {};
    for (const [k, of] of Object.entries(stored.choice || {})) if (k in choice) choice[k] = of;
    single = stored.single || {};
  } catch {
    single = {};
  }
  show();
})();
