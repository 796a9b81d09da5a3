"use strict";

/* The list, the page of one image, ratings and their export. Everything that comes from an image's
   name is handled as text: markup comes only from the report's own templates, which escape it. */

const QC = (() => {
  const RATINGS = { pass: "✓ Pass", artifact: "~ Artifact", fail: "✕ Fail" };
  /* Browsers and files hold ratings in the spelling of the first versions, too. */
  const respelled = (rating) => (rating === "artefact" ? "artifact" : rating);
  const FILES = { fail: "qc_fail.yml", artifact: "qc_artifact.yml" };
  const element = (id) => document.getElementById(id);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const report = document.body.dataset.report;
  const rows = all("#entries tbody tr");
  const byId = new Map(rows.map((row) => [row.dataset.id, row]));
  const view = { show: "all", flagged: false, text: "", sort: null, descending: false };
  const markup = new Map();
  const listeners = { open: [], close: [], overlay: [] };
  let selected = null;
  let opened = null;
  let scrolled = 0;

  /* Ratings: one item of the browser's storage an image, so that two windows do not undo each
     other. Where storage is forbidden they live as long as the page. */
  const memory = new Map();
  const keyOf = (id) => `sct_rootlets_qc/${report}/${id}`;

  function read(id) {
    try {
      const record = JSON.parse(localStorage.getItem(keyOf(id))) || {};
      return { ...record, rating: respelled(record.rating) };
    } catch {
      return memory.get(id) || {};
    }
  }

  function write(id, changes) {
    const record = { ...read(id), ...changes };
    memory.set(id, record);
    try {
      localStorage.setItem(keyOf(id), JSON.stringify(record));
    } catch {
      element("lost").hidden = false;
    }
    refresh(id);
  }

  /* A rating belongs to the segmentation that was looked at, not to what a later run put there. */
  const isStale = (id) => Boolean(read(id).rating) && read(id).stamp !== byId.get(id).dataset.stamp;
  const ratingOf = (id) => (isStale(id) ? "" : read(id).rating || "");

  function rate(id, rating) {
    const taken = ratingOf(id) === rating ? "" : rating;
    write(id, { rating: taken, stamp: byId.get(id).dataset.stamp, when: new Date().toISOString() });
  }

  function note(id, text) {
    if ((read(id).notes || "") !== text) write(id, { notes: text });
  }

  function refresh(id) {
    refreshRow(id);
    if (opened === id) refreshReview();
    tally();
  }

  function refreshRow(id) {
    const row = byId.get(id);
    const mark = row.querySelector(".mark");
    const { rating, notes } = read(id);
    mark.textContent = RATINGS[rating] ? RATINGS[rating] + (isStale(id) ? " (earlier run)" : "") : "";
    mark.dataset.rating = rating || "";
    mark.toggleAttribute("data-stale", isStale(id));
    const field = row.querySelector(".notes");
    if (document.activeElement !== field) field.value = notes || "";
  }

  /* Another window may have changed anything. */
  function refreshAll() {
    for (const row of rows) refreshRow(row.dataset.id);
    if (opened) refreshReview();
    tally();
  }

  function refreshReview() {
    const { notes } = read(opened);
    for (const button of all("[data-rate]")) {
      button.setAttribute("aria-pressed", String(button.dataset.rate === ratingOf(opened)));
    }
    if (document.activeElement !== element("notes")) element("notes").value = notes || "";
    element("stale").hidden = !isStale(opened);
  }

  function tally() {
    const rated = rows.filter((row) => ratingOf(row.dataset.id)).length;
    const shown = visible().length;
    const part = shown < rows.length ? `${shown} of ` : "";
    const images = rows.length === 1 ? "1 image" : `${rows.length} images`;
    element("tally").textContent = `${part}${images} · ${rated} rated`;
  }

  /* The list */
  const visible = () => all("#entries tbody tr").filter((row) => !row.hidden);

  function fits(row) {
    const rating = ratingOf(row.dataset.id);
    const rated = view.show === "all" || (view.show === "none" ? !rating : rating === view.show);
    const flagged = !view.flagged || Number(row.dataset.warnings) > 0;
    const { subject, dataset, file, model, flags, levels } = row.dataset;
    const text = [subject, dataset, file, model, flags, levels, read(row.dataset.id).notes || ""]
      .join("\n").toLowerCase();
    return rated && flagged && view.text.split(/\s+/).every((word) => text.includes(word));
  }

  function filter() {
    for (const row of rows) row.hidden = !fits(row);
    element("nothing").hidden = visible().length > 0;
    if (selected && selected.hidden) select(null);
    tally();
  }

  const NUMBERS = new Set(["found", "warnings"]);
  const ORDER = { fail: 0, artifact: 1, "": 2, pass: 3 };

  function compare(a, b) {
    const key = view.sort;
    if (key === "rating") return ORDER[ratingOf(a.dataset.id)] - ORDER[ratingOf(b.dataset.id)];
    if (NUMBERS.has(key)) return Number(a.dataset[key]) - Number(b.dataset[key]);
    return a.dataset[key].localeCompare(b.dataset[key], undefined, { numeric: true });
  }

  function sort(key) {
    view.descending = view.sort === key && !view.descending;
    view.sort = key;
    const sign = view.descending ? -1 : 1;
    const sorted = [...rows].sort((a, b) => sign * compare(a, b) || rows.indexOf(a) - rows.indexOf(b));
    document.querySelector("#entries tbody").append(...sorted);
    for (const heading of all("#entries th[aria-sort]")) {
      const own = heading.firstElementChild.dataset.sort === key;
      heading.setAttribute("aria-sort", !own ? "none" : view.descending ? "descending" : "ascending");
    }
  }

  function select(row) {
    if (selected) selected.classList.remove("selected");
    selected = row;
    if (!row) return;
    row.classList.add("selected");
    row.scrollIntoView({ block: "nearest" });
  }

  function neighbor(row, by) {
    const list = visible();
    const place = list.indexOf(row);
    return list[place < 0 ? (by > 0 ? 0 : list.length - 1) : place + by] || null;
  }

  function setPressed(buttons, test) {
    for (const button of buttons) button.setAttribute("aria-pressed", String(test(button)));
  }

  /* The page of one image */
  function load(path, failed, loaded = () => {}) {
    const script = document.createElement("script");
    script.src = path;
    script.onload = () => { script.remove(); loaded(); };
    script.onerror = () => { script.remove(); failed(); };
    document.head.append(script);
  }

  function entry(id, html) {
    if (!byId.has(id)) return;
    markup.set(id, html);
    if (opened === id) fill(id);
  }

  function fill(id) {
    element("sheet").innerHTML = markup.get(id);
    for (const bar of all(".scale", element("sheet"))) setScale(bar, Number(bar.dataset.widthMm));
    /* In a narrow window the views share its width, so that both are equally tall. */
    for (const image of all(".lengthwise .view > img:first-child")) {
      image.closest(".panel").style.setProperty("--ratio", image.getAttribute("width") / image.getAttribute("height"));
    }
    for (const listener of listeners.open) listener(id);
  }

  function open(id) {
    const row = byId.get(id);
    if (!opened) scrolled = window.scrollY;
    opened = id;
    element("list").hidden = true;
    element("review").hidden = false;
    const { subject, dataset, file } = row.dataset;
    element("title").textContent = subject;
    element("subtitle").textContent = [dataset, file].filter(Boolean).join(" · ");
    for (const line of [element("title"), element("subtitle")]) line.title = line.textContent;
    document.title = `${subject} – rootlets QC`;
    const list = visible();
    const place = list.indexOf(row);
    element("position").textContent = place < 0 ? "" : `${place + 1} of ${list.length}`;
    element("previous").disabled = !neighbor(row, -1);
    element("next").disabled = !neighbor(row, 1);
    refreshReview();
    element("sheet").replaceChildren();
    for (const listener of listeners.close) listener();
    window.scrollTo(0, 0);
    if (markup.has(id)) fill(id);
    else load(`entries/${id}/entry.js`, () => missing(id));
  }

  /* A round length of at most 35 % of a picture, as a share of its width; as in qc/render.py. */
  function setScale(bar, widthMm) {
    const lengths = [1, 2, 5, 10, 20, 50, 100, 200].filter((mm) => mm <= widthMm * 0.35);
    bar.hidden = !lengths.length;
    if (bar.hidden) return;
    const mm = lengths[lengths.length - 1];
    bar.dataset.mm = mm;
    bar.dataset.text = `${mm} mm`;
    bar.style.width = `${(100 * mm) / widthMm}%`;
  }

  function missing(id) {
    const text = document.createElement("p");
    text.className = "notice";
    text.textContent = `The files of this image (entries/${id}) are not in the report's folder. Reload the page.`;
    if (opened === id) element("sheet").replaceChildren(text);
  }

  function close() {
    const last = opened;
    opened = null;
    for (const listener of listeners.close) listener();
    element("sheet").replaceChildren();
    element("review").hidden = true;
    element("list").hidden = false;
    document.title = "Rootlets QC";
    filter();
    window.scrollTo(0, scrolled);
    if (last) select(byId.get(last).hidden ? null : byId.get(last));
  }

  function route() {
    const id = decodeURIComponent(location.hash.slice(1));
    if (byId.has(id)) open(id);
    else if (opened) close();
  }

  function go(by) {
    const row = neighbor(byId.get(opened), by);
    if (row) location.replace(`#${row.dataset.id}`);
  }

  /* Levels on, off, and how opaque */
  const overlay = { on: true, opacity: 0.8 };

  function setOverlay(changes) {
    Object.assign(overlay, changes);
    overlay.opacity = Math.min(1, Math.max(0, overlay.opacity));
    document.documentElement.style.setProperty("--overlay", String(overlay.opacity));
    document.body.classList.toggle("overlay-off", !overlay.on);
    element("overlay").setAttribute("aria-pressed", String(overlay.on));
    element("opacity").value = String(overlay.opacity);
    for (const listener of listeners.overlay) listener(overlay.on ? overlay.opacity : 0);
  }

  /* Light or dark, as the browser says unless somebody chose */
  const THEMES = { auto: "as the browser", light: "light", dark: "dark" };
  const THEME = "sct_rootlets_qc/theme";
  const root = document.documentElement;

  function chosenTheme() {
    try {
      return localStorage.getItem(THEME) in THEMES ? localStorage.getItem(THEME) : "auto";
    } catch {
      return root.dataset.theme || "auto";
    }
  }

  function setTheme(theme) {
    root.dataset.theme = theme;
    for (const button of all("[data-next-theme]")) {
      button.setAttribute("aria-label", `Theme: ${THEMES[theme]}`);
      button.title = `Theme: ${THEMES[theme]} (T)`;
    }
    try {
      localStorage.setItem(THEME, theme);
    } catch {
      /* Then the choice lives as long as the page. */
    }
  }

  function nextTheme() {
    const names = Object.keys(THEMES);
    setTheme(names[(names.indexOf(chosenTheme()) + 1) % names.length]);
  }

  /* What sticks below the bar has to know how tall it is: it wraps in a narrow window. */
  function measureBars() {
    const bars = new ResizeObserver((seen) => {
      const height = Math.max(...seen.map(({ target }) => target.offsetHeight));
      if (height) root.style.setProperty("--bar", `${height}px`);
    });
    for (const bar of all(".bar")) bars.observe(bar);
  }

  /* Export and import */
  function download(name, type, text) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  const COLUMNS = document.body.dataset.columns.split(" ");

  /* A spreadsheet would take a cell that starts like a formula for one. */
  function cell(value) {
    const text = /^\s*[=+\-@＝＋－＠]|^[\t\r\n]/.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }

  function asCsv() {
    const lines = rows.map((row) => {
      const { rating = "", notes = "", when = "", stamp = "" } = read(row.dataset.id);
      const run = rating ? (isStale(row.dataset.id) ? "earlier" : "this") : "";
      const known = { ...row.dataset, rating, notes, rated_at: when, rated_run: run, stamp };
      return COLUMNS.map((column) => cell(known[column] || "")).join(",");
    });
    return [COLUMNS.join(","), ...lines].join("\r\n") + "\r\n";
  }

  /* The list of files that SCT's own report saves and its manual correction reads. A string in
     JSON's quotes is one in YAML's too. */
  function asYaml(rating) {
    const chosen = rows.filter((row) => ratingOf(row.dataset.id) === rating);
    if (!chosen.length) return `# No image is rated "${rating}".\n`;
    const lines = chosen.map((row) => {
      const text = (read(row.dataset.id).notes || "").replace(/[\s\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, " ").trim();
      return `    - ${JSON.stringify(row.dataset.path)}${text ? `  # ${text}` : ""}`;
    });
    return `FILES_SEG:\n${lines.join("\n")}\n`;
  }

  function parseCsv(text) {
    const table = [[""]];
    let quoted = false;
    for (let i = 0; i < text.length; i += 1) {
      const line = table[table.length - 1];
      const letter = text[i];
      if (quoted && letter === '"' && text[i + 1] === '"') line[line.length - 1] += text[(i += 1)];
      else if (letter === '"') quoted = !quoted;
      else if (!quoted && letter === ",") line.push("");
      else if (!quoted && letter === "\n") table.push([""]);
      else if (quoted || letter !== "\r") line[line.length - 1] += letter;
    }
    const [names, ...lines] = table.filter((line) => line.length > 1);
    return (lines || []).map((line) => Object.fromEntries(names.map((n, i) => [n.replace(/^\ufeff/, ""), line[i] || ""])));
  }

  /* What was rated last wins, here or in the file. */
  function take(text) {
    for (const line of parseCsv(text)) {
      const rating = respelled(line.rating);
      const known = byId.has(line.id) && (rating in RATINGS || rating === "");
      if (!known || (read(line.id).when || "") > (line.rated_at || "")) continue;
      const notes = line.notes.replace(/^'(?=\s*[=+\-@＝＋－＠]|[\t\r\n])/, "");
      if (!rating && !notes) continue;
      write(line.id, { rating, notes, when: line.rated_at, stamp: line.stamp });
    }
    filter();
  }

  /* Keys */
  const onRated = (rating) => () => {
    if (opened) rate(opened, rating);
    else if (selected) rate(selected.dataset.id, rating);
  };

  function onNote() {
    const field = opened ? element("notes") : selected && selected.querySelector(".notes");
    if (field) field.focus();
  }

  const step = (by) => (opened ? go(by) : select(neighbor(selected, by) || selected));

  const KEYS = {
    p: onRated("pass"), a: onRated("artifact"), f: onRated("fail"), n: onNote,
    o: () => setOverlay({ on: !overlay.on }),
    "[": () => setOverlay({ opacity: overlay.opacity - 0.1 }),
    "]": () => setOverlay({ opacity: overlay.opacity + 0.1 }),
    "?": () => element("help").showModal(),
    j: () => step(1), k: () => step(-1),
    ArrowRight: () => opened && go(1), ArrowLeft: () => opened && go(-1),
    ArrowDown: () => !opened && step(1), ArrowUp: () => !opened && step(-1),
    Enter: () => !opened && selected && (location.hash = selected.dataset.id),
    Escape: () => opened && (location.hash = ""),
    "/": () => !opened && element("filter").focus(),
    v: () => opened && toVolume(), t: nextTheme,
  };

  /* Arrows scroll a long page, so there they are left alone. */
  const PASSIVE = new Set(["ArrowDown", "ArrowUp"]);

  function toVolume() {
    const far = element("viewer").getBoundingClientRect().top > window.innerHeight / 2;
    if (far) element("viewer").scrollIntoView({ block: "start" });
    else window.scrollTo(0, 0);
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || element("help").open) return;
    const typing = event.target.matches("input:not([type=range])");
    if (typing) {
      if (event.key === "Escape" || event.key === "Enter") { event.target.blur(); event.preventDefault(); }
      return;
    }
    const pressing = event.target.matches("button, summary, a, [type=range]");
    if (pressing && (event.key === "Enter" || event.key.startsWith("Arrow"))) return;
    const action = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action || (opened && PASSIVE.has(event.key))) return;
    event.preventDefault();
    action();
  }

  function listen() {
    document.addEventListener("keydown", onKey);
    window.addEventListener("hashchange", route);
    window.addEventListener("storage", refreshAll);
    element("filter").addEventListener("input", (event) => {
      view.text = event.target.value.trim().toLowerCase();
      filter();
    });
    for (const button of all("[data-show]")) {
      button.addEventListener("click", () => {
        view.show = button.dataset.show;
        setPressed(all("[data-show]"), (other) => other === button);
        filter();
      });
    }
    element("flagged").addEventListener("click", () => {
      view.flagged = !view.flagged;
      setPressed([element("flagged")], () => view.flagged);
      filter();
    });
    for (const button of all("[data-sort]")) button.addEventListener("click", () => sort(button.dataset.sort));
    for (const button of all("[data-rate]")) button.addEventListener("click", () => rate(opened, button.dataset.rate));
    for (const button of all("[data-next-theme]")) button.addEventListener("click", nextTheme);
    for (const button of all("[data-help]")) button.addEventListener("click", () => element("help").showModal());
    for (const button of all("[data-save]")) {
      button.addEventListener("click", () => {
        const kind = button.dataset.save;
        if (kind === "csv") download("qc_ratings.csv", "text/csv", asCsv());
        else download(FILES[kind], "text/yaml", asYaml(kind));
        element("ratings-menu").open = false;
      });
    }
    element("load").addEventListener("change", async (event) => {
      for (const file of event.target.files) take(await file.text());
      event.target.value = "";
      element("ratings-menu").open = false;
    });
    element("entries").addEventListener("click", (event) => {
      const row = event.target.closest("tbody tr");
      if (row) select(row);
    });
    element("entries").addEventListener("input", (event) => {
      note(event.target.closest("tr").dataset.id, event.target.value);
    });
    element("notes").addEventListener("input", (event) => note(opened, event.target.value));
    element("previous").addEventListener("click", () => go(-1));
    element("next").addEventListener("click", () => go(1));
    element("overlay").addEventListener("click", () => setOverlay({ on: !overlay.on }));
    element("opacity").addEventListener("input", (event) => setOverlay({ on: true, opacity: Number(event.target.value) }));
  }

  function start() {
    setTheme(chosenTheme());
    listen();
    measureBars();
    setOverlay({});
    refreshAll();
    filter();
    route();
    document.body.dataset.ready = "1";
  }

  document.addEventListener("DOMContentLoaded", start);

  return {
    entry,
    load,
    setScale,
    on: (event, listener) => listeners[event].push(listener),
    levels: (table) => Object.assign(QC.colors, table),
    colors: {},
    /* Set by the viewer. */
    volume: () => {},
  };
})();
