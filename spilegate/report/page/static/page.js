"use strict";
// The surface, the slices, printing, and newer content while a run goes on.
(() => {
  const element = (id) => document.getElementById(id);
  // What the user has chosen outlives newer content.
  const chosen = { threshold: null, plane: "2", position: 0.5, state: 0 };
  let boxes = [];
  let viewer = null;
  let surface = null;
  let spinning = false;

  function decode(box) {
    const text = atob(box.data);
    const values = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) values[i] = text.charCodeAt(i);
    return { ...box, values };
  }

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  }

  // --- the surface ---------------------------------------------------------------------------------------------------

  function hasWebGL() {
    const canvas = document.createElement("canvas");
    const context = canvas.getContext("webgl2") || canvas.getContext("webgl");
    const lose = context && context.getExtension("WEBGL_lose_context");
    if (lose) lose.loseContext();
    return Boolean(context);
  }

  function startSurface() {
    const place = element("surface");
    if (!place) return;
    if (!viewer) {
      if (typeof $3Dmol === "undefined" || !hasWebGL()) {
        element("no-surface").hidden = false;
        place.hidden = true;
        return;
      }
      viewer = $3Dmol.createViewer(place, { backgroundAlpha: 0, antialias: true, disableFog: true });
      place.addEventListener("keydown", turn);
    } else {
      // A browser holds only so many drawing contexts: this one goes on in newer content.
      place.replaceWith(surface);
    }
    surface = element("surface");
    const slider = element("threshold");
    if (chosen.threshold !== null) slider.value = chosen.threshold;
    slider.addEventListener("input", () => { chosen.threshold = slider.value; drawSurface(); });
    element("view-reset").addEventListener("click", () => { viewer.setView(viewer.first); viewer.render(); });
    const spin = element("spin");
    const press = () => {
      viewer.spin(spinning ? "y" : false, 0.6);
      spin.setAttribute("aria-pressed", String(spinning));
    };
    spin.addEventListener("click", () => { spinning = !spinning; press(); });
    spin.setAttribute("aria-pressed", String(spinning));
    // What can be read is there before what has to be drawn.
    setTimeout(drawSurface, 0);
  }

  function turn(event) {
    const steps = {
      ArrowLeft: () => viewer.rotate(-10, "vy"), ArrowRight: () => viewer.rotate(10, "vy"),
      ArrowUp: () => viewer.rotate(-10, "vx"), ArrowDown: () => viewer.rotate(10, "vx"),
      "+": () => viewer.zoom(1.15), "=": () => viewer.zoom(1.15), "-": () => viewer.zoom(1 / 1.15),
      "0": () => viewer.setView(viewer.first),
    };
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in steps)) return;
    event.preventDefault();
    steps[event.key]();
    viewer.render();
  }

  function drawSurface() {
    const box = boxes[chosen.state];
    element("threshold-out").textContent = `${element("threshold").value} %`;
    if (!viewer || !box) return;
    const [x, y, z] = box.shape;
    const volume = new $3Dmol.VolumeData("", "");
    volume.size = { x, y, z };
    volume.unit = { x: box.step[0], y: box.step[1], z: box.step[2] };
    volume.origin = { x: box.origin[0], y: box.origin[1], z: box.origin[2] };
    volume.data = box.values;
    viewer.removeAllShapes();
    // Half a level: no voxel lies on the surface itself.
    const level = Math.floor(element("threshold").value * 2.55) + 0.5;
    viewer.addIsosurface(volume, { isoval: level, color: colour("--surface"), smoothness: 6 });
    if (!viewer.first) {
      viewer.zoomTo();
      viewer.zoom(1.25);
      viewer.first = viewer.getView();
    }
    viewer.render();
  }

  // --- slices --------------------------------------------------------------------------------------------------------

  function palette() {
    // The colours of the bar below, which are those of every picture of a density here.
    const ramp = document.querySelector(".slicer .ramp").getAttribute("style").match(/#[0-9a-f]{6}/g);
    const stops = ramp.map((stop) => [1, 3, 5].map((i) => parseInt(stop.slice(i, i + 2), 16)));
    const table = new Uint8ClampedArray(256 * 3);
    for (let i = 0; i < 256; i++) {
      const place = (i / 255) * (stops.length - 1);
      const low = Math.min(Math.floor(place), stops.length - 2);
      for (let c = 0; c < 3; c++) table[3 * i + c] = stops[low][c] + (place - low) * (stops[low + 1][c] - stops[low][c]);
    }
    return table;
  }

  function startSlices() {
    const slider = element("position");
    if (!slider) return;
    for (const radio of document.querySelectorAll("input[name=plane]")) {
      radio.checked = radio.value === chosen.plane;
      radio.addEventListener("change", () => { chosen.plane = radio.value; setRange(); drawSlice(); });
    }
    slider.addEventListener("input", () => { chosen.position = slider.value / slider.max; drawSlice(); });
    setRange();
    drawSlice();
  }

  function setRange() {
    const slider = element("position");
    const box = boxes[chosen.state];
    const axis = Number(chosen.plane);
    slider.max = String(box.shape[axis] - 1);
    // The plane through the origin comes first.
    const middle = Math.round(-box.origin[axis] / box.step[axis]);
    slider.value = String(chosen.position === 0.5 ? Math.min(Math.max(middle, 0), slider.max) : Math.round(chosen.position * slider.max));
  }

  function drawSlice() {
    const box = boxes[chosen.state];
    const canvas = element("slice");
    const axis = Number(chosen.plane);
    const [right, up] = [0, 1, 2].filter((other) => other !== axis);
    const [width, height] = [box.shape[right], box.shape[up]];
    const at = Number(element("position").value);
    const stride = [box.shape[1] * box.shape[2], box.shape[2], 1];
    const picture = new ImageData(width, height);
    const colours = palette();
    for (let v = 0; v < height; v++) {
      for (let u = 0; u < width; u++) {
        const value = box.values[at * stride[axis] + u * stride[right] + v * stride[up]];
        const place = 4 * ((height - 1 - v) * width + u);
        for (let c = 0; c < 3; c++) picture.data[place + c] = colours[3 * value + c];
        picture.data[place + 3] = 255;
      }
    }
    const small = document.createElement("canvas");
    small.width = width;
    small.height = height;
    small.getContext("2d").putImageData(picture, 0, 0);
    const scale = 640 / Math.max(width * box.step[right], height * box.step[up]);
    canvas.width = Math.round(width * box.step[right] * scale);
    canvas.height = Math.round(height * box.step[up] * scale);
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
    const place = box.origin[axis] + at * box.step[axis];
    const said = `${"xyz"[axis]} = ${place.toFixed(1)} Å`;
    element("position-out").textContent = said;
    element("position").setAttribute("aria-valuetext", said);
    canvas.setAttribute("aria-label", `Slice of the density at ${said}; ${"xyz"[right]} to the right, ${"xyz"[up]} upwards`);
  }

  // --- the page ------------------------------------------------------------------------------------------------------

  function start() {
    const data = element("densities");
    boxes = data ? JSON.parse(data.textContent).map(decode) : [];
    chosen.state = Math.min(chosen.state, Math.max(boxes.length - 1, 0));
    const which = element("which-state");
    if (which) {
      which.value = String(chosen.state);
      which.addEventListener("change", () => {
        chosen.state = Number(which.value);
        drawSurface();
        setRange();
        drawSlice();
      });
    }
    startSurface();
    startSlices();
  }

  // --- newer content, where this page is served while its run goes on ---------------------------------------------------

  const OFTEN = 1500;
  const SELDOM = 15000;
  const QUIET_SECONDS = 600;

  function ago(seconds) {
    if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s ago`;
    return seconds < 5400 ? `${Math.round(seconds / 60)} min ago` : `${(seconds / 3600).toFixed(1)} h ago`;
  }

  // What is said, and how long ago it was: who listens to the page is told the first alone, when it is another.
  function said(state, now) {
    if (!state.running) return ["", ""];
    const stage = state.stage;
    if (!stage && !state.checkpoint) return [state.locked ? "A run has begun; its blind start goes on." : "No run here yet.", ""];
    const last = stage ? `generation ${stage.generation} of about ${stage.generations}, ${stage.stage} ended` : "a checkpoint";
    const quiet = state.changed ? now - state.changed : 0;
    if (!state.locked) return [`No run is writing here; the last was ${last}. Its command line with --resume goes on.`, ""];
    const done = stage && state.generation === stage.generation && stage.generation === stage.generations;
    const then = done ? "; half-sets and phasings follow" : "";
    const stopped = quiet > QUIET_SECONDS && !done ? "; it is long, or the run was stopped" : "";
    return [`Live: ${last}${then}${stopped}.`, state.changed ? `(${ago(quiet)})` : ""];
  }

  function show(id, words) {
    if (element(id) && element(id).textContent !== words) element(id).textContent = words;
  }

  function newer(html) {
    const scroll = window.scrollY;
    const focus = document.activeElement && document.activeElement.id;
    const opened = [...document.querySelectorAll("details")].map((part) => part.open);
    const parsed = new DOMParser().parseFromString(html, "text/html");
    const title = parsed.querySelector("h1");
    for (const old of document.querySelectorAll("header.verdict, nav, main, footer, #densities")) old.remove();
    const before = document.querySelector("body > script");
    // Scripts that are parsed in this way are data: none of them runs.
    for (const part of [...parsed.body.children]) document.body.insertBefore(part, before);
    document.querySelectorAll("details").forEach((part, i) => { if (i in opened) part.open = opened[i]; });
    if (title) document.title = title.textContent;
    start();
    if (focus && element(focus)) element(focus).focus({ preventScroll: true });
    window.scrollTo({ top: scroll, behavior: "instant" });
  }

  async function follow() {
    let shown = document.documentElement.dataset.live;
    for (;;) {
      let wait = document.hidden ? SELDOM : OFTEN;
      try {
        const answer = await fetch("state.json", { cache: "no-cache" });
        if (!answer.ok) throw new Error(answer.statusText);
        const now = Date.parse(answer.headers.get("Date")) / 1000;
        const state = await answer.json();
        if (shown !== state.page) {
          const content = await fetch("content", { cache: "no-cache" });
          if (!content.ok) throw new Error(content.statusText);
          newer(await content.text());
          shown = state.page;
        }
        const [words, age] = said(state, now);
        show("live", words);
        show("age", age);
        if (!state.running) wait = SELDOM;
      } catch {
        show("live", "The server of this page does not answer; what is shown is the last it had.");
        wait = 3 * OFTEN;
      }
      await new Promise((go) => {
        setTimeout(go, wait);
        document.addEventListener("visibilitychange", go, { once: true });
      });
    }
  }

  window.addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details")) part.open = true;
    if (viewer && surface.clientWidth) element("surface-print").src = viewer.pngURI();
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawSurface);
  start();
  if (document.documentElement.dataset.live) follow();
  
})();
