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
  /* What list.js brings: the rows by the entries' names, and the folders that are no entries. */
  const byId = new Map();
  const unreadable = new Map();
  let listRead = false;
  /* All rows as sorted; those of them that fit the filter, and the place of each among these. */
  let order = [];
  let listed = [];
  let places = new Map();
  const view = { show: "all", flagged: false, corrected: false, text: "", sort: null, descending: false };
  const markup = new Map();
  const listeners = { open: [], close: [], overlay: [] };
  let selected = null;
  let opened = null;
  let scrolled = 0;

  /* Ratings: one item of the browser's storage an image, so that two windows do not undo each
     other. Where storage is forbidden they live as long as the page. */
  const ratings = new Map();
  const PREFIX = `sct_rootlets_qc/${report}/`;
  const keyOf = (id) => PREFIX + id;
  const read = (id) => ratings.get(id) || {};

  function stored(id) {
    try {
      const record = JSON.parse(localStorage.getItem(keyOf(id))) || {};
      return { ...record, rating: respelled(record.rating) };
    } catch {
      return read(id);
    }
  }

  function put(id, record) {
    ratings.set(id, record);
    try {
      localStorage.setItem(keyOf(id), JSON.stringify(record));
    } catch {
      element("lost").hidden = false;
    }
  }

  /* What each rater says of an image, the newest first. That one is shown, all are saved. */
  function opinions({ others = [], ...first }) {
    return [first, ...others].filter(({ when, rating, notes }) => when || rating || notes);
  }

  const isBy = (rater) => (opinion) => (opinion.rater || "") === rater;

  function say(id, opinion) {
    const rest = opinions(stored(id)).filter((other) => !isBy(opinion.rater || "")(other));
    const [first, ...others] = [opinion, ...rest].sort((a, b) => inOrder(b.when || "", a.when || ""));
    put(id, { ...first, others });
  }

  /* Who rates is asked once; an empty name is an answer. */
  const RATER = "sct_rootlets_qc/rater";
  const rater = { name: null, unnamed: new Set() };
  const me = () => rater.name || "";

  /* A rating belongs to the segmentation that was looked at, not to what a later run put there. */
  const isOfEarlierRun = (id, { rating, stamp }) => Boolean(rating) && stamp !== byId.get(id).stamp;
  const isStale = (id) => isOfEarlierRun(id, read(id));
  const ratingOf = (id) => (isStale(id) ? "" : read(id).rating || "");

  function sayNow(id, changes) {
    say(id, { ...changes, rater: me(), when: new Date().toISOString() });
    if (!me()) rater.unnamed.add(id);
    refresh(id);
  }

  function rate(id, rating) {
    const taken = ratingOf(id) === rating ? "" : rating;
    const { notes = "" } = opinions(stored(id)).find(isBy(me())) || {};
    sayNow(id, { rating: taken, notes, stamp: byId.get(id).stamp });
    if (rater.name === null) element("who").hidden = false;
  }

  function note(id, text) {
    const { rating = "", notes = "", stamp = "" } = stored(id);
    if (notes !== text) sayNow(id, { rating, notes: text, stamp });
  }


  function setRater(name) {
    rater.name = name;
    for (const field of all("[data-rater]")) field.value = name || "";
    if (name !== null && !element("who").hidden) {
      document.activeElement.blur();
      element("who").hidden = true;
    }
    if (opened) refreshReview();
  }

  function keepRater(text) {
    const name = text.trim();
    setRater(name);
    try {
      localStorage.setItem(RATER, name);
    } catch {
      /* Then the name lives as long as the page. */
    }
    if (!name) return;
    for (const id of rater.unnamed) {
      const own = opinions(stored(id)).find(isBy(""));
      if (!own) continue;
      put(id, { others: opinions(stored(id)).filter((other) => !isBy("")(other)) });
      say(id, { ...own, rater: name });
    }
    rater.unnamed.clear();
    refreshAll();
  }

  function readRater() {
    try {
      setRater(localStorage.getItem(RATER));
    } catch {
      setRater(rater.name);
    }
  }

  function refresh(id) {
    refreshRow(id);
    if (opened === id) refreshReview();
    tally();
  }

  const worded = (id, opinion) => RATINGS[opinion.rating] ? RATINGS[opinion.rating] + (isOfEarlierRun(id, opinion) ? " (earlier run)" : "") : "";
  const told = (id, opinion) => [`${opinion.rater || "No name"}: ${worded(id, opinion) || "no rating"}`, (opinion.when || "").slice(0, 10), opinion.notes].filter(Boolean).join(", ");

  function refreshRow(id) {
    const row = drawn.get(id);
    if (!row) return;
    const mark = row.querySelector(".mark");
    const record = read(id);
    mark.textContent = worded(id, record);
    mark.title = opinions(record).map((opinion) => told(id, opinion)).join("\n");
    mark.dataset.rating = record.rating || "";
    mark.toggleAttribute("data-stale", isStale(id));
    const field = row.querySelector(".notes");
    if (document.activeElement !== field) field.value = record.notes || "";
  }

  function refreshAll() {
    for (const id of drawn.keys()) refreshRow(id);
    if (opened) refreshReview();
    tally();
  }

  /* Another window may have changed anything. */
  function onStorage({ key }) {
    const changed = key === null ? [...byId.keys()] : [key.replace(PREFIX, "")].filter((id) => byId.has(id));
    for (const id of changed) ratings.set(id, stored(id));
    if (key === null || key === RATER) readRater();
    refreshAll();
  }

  function refreshReview() {
    const record = read(opened);
    for (const button of all("[data-rate]")) {
      button.setAttribute("aria-pressed", String(button.dataset.rate === ratingOf(opened)));
    }
    if (document.activeElement !== element("notes")) element("notes").value = record.notes || "";
    element("stale").hidden = !isStale(opened);
    const known = opinions(record);
    element("opinions").hidden = known.every(isBy(me()));
    element("opinions").textContent = known.map((opinion) => told(opened, opinion)).join(" · ");
  }

  function tally() {
    const rated = order.filter(({ id }) => ratingOf(id)).length;
    const part = listed.length < order.length ? `${listed.length} of ` : "";
    const images = order.length === 1 ? "1 image" : `${order.length} images`;
    element("tally").textContent = `${part}${images} · ${rated} rated`;
  }

  /* The rows, as list.js brings them; a later one of an entry replaces the earlier one. */
  function head(_, names) {
    listRead = true;
    for (const [name, reason] of Object.entries(names)) unreadable.set(name, reason);
  }

  function row(given) {
    byId.set(given.id, given);
    unreadable.delete(given.id);
  }

  const inOrder = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  const nameOf = (level) => (QC.colors[level] ? QC.colors[level].name : String(level));

  function prepare() {
    const keys = ["dataset", "subject", "image", "image_path"];
    order = [...byId.values()].sort((a, b) => keys.reduce((found, key) => found || inOrder(a[key], b[key]), 0));
    nameFiles();
    order.forEach((row, rank) => {
      const { subject, session = "", dataset, file, model, corrected } = row;
      row.rank = rank;
      row.where = [dataset, file.includes(session) ? "" : session, file].filter(Boolean).join(" · ");
      row.levels = row.found.map(nameOf).join(" ");
      row.codes = row.flags.map(([code]) => code).join(" ");
      row.warnings = row.flags.filter(([, , isWarning]) => isWarning).length;
      const words = [subject, session, dataset, file, model, row.codes, row.levels, corrected ? "corrected" : ""];
      row.words = words.join("\n").toLowerCase();
      const record = stored(row.id);
      if (opinions(record).length) ratings.set(row.id, record);
    });
    element("corrected").hidden = !order.some(({ corrected }) => corrected);
    element("broken").hidden = listRead;
    showUnreadable();
  }

  /* The images' names, with as much of the paths as tells those of one name apart. */
  function nameFiles() {
    const alike = new Map();
    for (const row of order) {
      const key = JSON.stringify([row.dataset, row.subject, row.image]);
      if (!alike.has(key)) alike.set(key, []);
      alike.get(key).push(row);
    }
    for (const group of alike.values()) {
      const [images, maps] = ["image", "segmentation"].map((kind) => apart(group.map((row) => row[`${kind}_place`] || row[`${kind}_path`])));
      group.forEach((row, n) => {
        row.file = images[n] || (maps[n] ? `${row.image} · ${maps[n]}` : row.image);
      });
    }
  }

  /* The paths without the folders that all of them share, or nothing where all are one. */
  function apart(paths) {
    if (new Set(paths).size === 1) return paths.map(() => "");
    const parts = paths.map((path) => path.split("/"));
    const shared = parts[0].findIndex((part, level) => parts.some((other) => other[level] !== part));
    return parts.map((part) => part.slice(shared < 0 ? parts[0].length : shared).join("/"));
  }

  function showUnreadable() {
    const box = element("unreadable");
    const count = unreadable.size;
    box.hidden = !count;
    box.querySelector("summary").textContent = count === 1 ? "1 entry is not listed: it cannot be read" : `${count} entries are not listed: they cannot be read`;
    box.querySelector("ul").replaceChildren(...[...unreadable].sort().map(([name, reason]) => {
      const line = tag("li", "", "");
      line.append(tag("code", "", `entries/${name}`), `: ${reason}`);
      return line;
    }));
  }

  /* The list. Only rows near the window are drawn, in blocks; the others are a gap of their height. */
  const BLOCK = 40;
  const drawn = new Map();
  let blocks = [];
  let rowHeight = 117;

  function tag(name, className, text) {
    const part = document.createElement(name);
    part.className = className;
    part.textContent = text;
    return part;
  }

  function rowOf(row) {
    const tr = element("row").content.firstElementChild.cloneNode(true);
    const part = (selector) => tr.querySelector(selector);
    Object.assign(tr.dataset, { id: row.id, subject: row.subject });
    part(".thumbnail").src = `entries/${row.id}/thumbnail.jpg`;
    part(".col-picture a").href = `#${row.id}`;
    Object.assign(part(".subject"), { href: `#${row.id}`, title: row.subject, textContent: row.subject });
    Object.assign(part(".col-subject .file"), { title: row.where, textContent: row.where });
    part(".pips").append(...pipsOf(row));
    part(".chips").append(...chipsOf(row));
    part(".notes").setAttribute("aria-label", `Note on ${row.subject}`);
    part("time").dateTime = row.made;
    part("time").append(`${row.made.slice(0, 10)} `, tag("span", "dim", row.made.slice(11, 16)));
    part(".col-made .file").textContent = row.model;
    tr.classList.toggle("selected", row.id === selected);
    return tr;
  }

  function pipsOf({ found, missing }) {
    if (!found.length) return [tag("span", "chip warning", "no level")];
    return [...found, ...missing].sort((a, b) => a - b).map((level) => {
      const isMissing = missing.includes(level);
      const pip = tag("span", `pip lv-${level}${isMissing ? " missing" : ""}`, nameOf(level));
      pip.title = nameOf(level) + (isMissing ? ": not found" : "");
      return pip;
    });
  }

  function chipsOf({ flags, corrected }) {
    const codes = [...new Set(flags.map(([code]) => code))].sort();
    const chips = codes.map((code) => {
      const own = flags.filter((flag) => flag[0] === code);
      const where = [...new Set(own.map(([, place]) => place).filter(Boolean))];
      const chip = tag("span", `chip ${own.some(([, , isWarning]) => isWarning) ? "warning" : "note"}`, code);
      if (where.length) chip.append(" ", tag("b", "", where.length < 3 ? where.join(" ") : `×${where.length}`));
      return chip;
    });
    return corrected ? [tag("span", "chip corrected", "corrected"), ...chips] : chips;
  }

  function drawBlock(block) {
    if (!block.firstElementChild.matches(".gap")) return;
    const own = listed.slice(block.start, block.start + BLOCK);
    const made = own.map(rowOf);
    block.replaceChildren(...made);
    own.forEach(({ id }, n) => {
      drawn.set(id, made[n]);
      refreshRow(id);
    });
    if (block.offsetHeight) rowHeight = block.offsetHeight / own.length;
  }

  function clearBlock(block) {
    const own = listed.slice(block.start, block.start + BLOCK);
    const gap = tag("tr", "gap", "");
    const cell = gap.appendChild(document.createElement("td"));
    cell.colSpan = 6;
    cell.style.height = `${block.offsetHeight || own.length * rowHeight}px`;
    for (const { id } of own) drawn.delete(id);
    block.replaceChildren(gap);
  }

  const nearWindow = new IntersectionObserver((seen) => {
    if (opened) return;
    for (const { target, isIntersecting } of seen) {
      if (isIntersecting) drawBlock(target);
      else if (drawn.has(listed[target.start]?.id) && !target.contains(document.activeElement)) clearBlock(target);
    }
  }, { rootMargin: "1500px 0px" });

  function draw() {
    nearWindow.disconnect();
    drawn.clear();
    for (const block of blocks) block.remove();
    blocks = [];
    for (let start = 0; start < listed.length; start += BLOCK) {
      const block = document.createElement("tbody");
      block.start = start;
      clearBlock(block);
      blocks.push(block);
      element("entries").append(block);
      if (start === 0) drawBlock(block);
      nearWindow.observe(block);
    }
  }

  function fits(row) {
    const rating = ratingOf(row.id);
    const rated = view.show === "all" || (view.show === "none" ? !rating : rating === view.show);
    const marked = (!view.flagged || row.warnings) && (!view.corrected || row.corrected);
    const text = `${row.words}\n${(read(row.id).notes || "").toLowerCase()}`;
    return rated && marked && view.text.split(/\s+/).every((word) => text.includes(word));
  }

  function filter() {
    listed = order.filter(fits);
    places = new Map(listed.map(({ id }, place) => [id, place]));
    element("nothing").hidden = listed.length > 0 || !listRead;
    element("nothing").textContent = order.length ? "No image fits the filter." : "This report has no image yet.";
    if (selected && !places.has(selected)) select(null);
    draw();
    tally();
  }

  const ORDER = { fail: 0, artifact: 1, "": 2, pass: 3 };
  const words = new Intl.Collator(undefined, { numeric: true });
  const COMPARE = {
    subject: (a, b) => words.compare(a.subject, b.subject),
    found: (a, b) => a.found.length - b.found.length,
    warnings: (a, b) => a.warnings - b.warnings,
    rating: (a, b) => ORDER[ratingOf(a.id)] - ORDER[ratingOf(b.id)],
    made: (a, b) => inOrder(a.made, b.made),
  };

  function sort(key) {
    view.descending = view.sort === key && !view.descending;
    view.sort = key;
    const sign = view.descending ? -1 : 1;
    order.sort((a, b) => sign * COMPARE[key](a, b) || a.rank - b.rank);
    for (const heading of all("#entries th[aria-sort]")) {
      const own = heading.firstElementChild.dataset.sort === key;
      heading.setAttribute("aria-sort", !own ? "none" : view.descending ? "descending" : "ascending");
    }
    filter();
  }

  function select(id) {
    if (drawn.has(selected)) drawn.get(selected).classList.remove("selected");
    selected = id;
    if (!id) return;
    drawBlock(blocks[Math.floor(places.get(id) / BLOCK)]);
    drawn.get(id).classList.add("selected");
    drawn.get(id).scrollIntoView({ block: "nearest" });
  }

  function neighbor(id, by) {
    const place = places.get(id);
    const next = place === undefined ? (by > 0 ? 0 : listed.length - 1) : place + by;
    return listed[next] ? listed[next].id : null;
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
    const { subject, where } = byId.get(id);
    if (!opened) scrolled = window.scrollY;
    opened = id;
    element("list").hidden = true;
    element("review").hidden = false;
    element("title").textContent = subject;
    element("subtitle").textContent = where;
    for (const line of [element("title"), element("subtitle")]) line.title = line.textContent;
    document.title = `${subject} – rootlets QC`;
    element("position").textContent = places.has(id) ? `${places.get(id) + 1} of ${listed.length}` : "";
    element("previous").disabled = !neighbor(id, -1);
    element("next").disabled = !neighbor(id, 1);
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
    if (last) select(places.has(last) ? last : null);
  }

  function route() {
    const id = decodeURIComponent(location.hash.slice(1));
    if (byId.has(id)) open(id);
    else if (opened) close();
  }

  function go(by) {
    const id = neighbor(opened, by);
    if (id) location.replace(`#${id}`);
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
    const lines = order.flatMap((row) => {
      const known = opinions(read(row.id));
      return (known.length ? known : [{}]).map((opinion) => csvLine(row, opinion));
    });
    return [COLUMNS.join(","), ...lines].join("\r\n") + "\r\n";
  }

  function csvLine(row, opinion) {
    const { rating = "", notes = "", rater = "", when = "", stamp = "" } = opinion;
    const run = rating ? (isOfEarlierRun(row.id, opinion) ? "earlier" : "this") : "";
    const known = {
      ...row, rating, notes, rater, rated_at: when, rated_run: run, stamp, flags: row.codes,
      missing: row.missing.map(nameOf).join(" "), corrected: row.corrected ? "yes" : "",
    };
    return COLUMNS.map((column) => cell(known[column] || "")).join(",");
  }

  /* The list of files that SCT's own report saves and its manual correction reads. A string in
     JSON's quotes is one in YAML's too. */
  function asYaml(rating) {
    const chosen = order.filter(({ id }) => ratingOf(id) === rating);
    if (!chosen.length) return `# No image is rated "${rating}".\n`;
    const lines = chosen.map((row) => {
      const text = (read(row.id).notes || "").replace(/[\s\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, " ").trim();
      return `    - ${JSON.stringify(row.image_path)}${text ? `  # ${text}` : ""}`;
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

  const unescaped = (text = "") => text.replace(/^'(?=\s*[=+\-@＝＋－＠]|[\t\r\n])/, "");

  /* What a rater said last stays, here or in the file; files of the first versions name nobody. */
  function take(text) {
    for (const line of parseCsv(text)) {
      const [rating, notes, by] = [respelled(line.rating), unescaped(line.notes), unescaped(line.rater)];
      if (!byId.has(line.id) || !(rating in RATINGS || rating === "") || !(rating || notes)) continue;
      const known = opinions(stored(line.id)).find(isBy(by));
      if (known && (known.when || "") > (line.rated_at || "")) continue;
      say(line.id, { rating, notes, when: line.rated_at, stamp: line.stamp, rater: by });
    }
    refreshAll();
    filter();
  }

  /* Keys */
  const onRated = (rating) => () => {
    if (opened) rate(opened, rating);
    else if (selected) rate(selected, rating);
  };

  function onNote() {
    /* The selected row may be out of sight, and then it is not drawn. */
    if (!opened && selected) select(selected);
    const field = opened ? element("notes") : selected && drawn.get(selected).querySelector(".notes");
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
    Enter: () => !opened && selected && (location.hash = selected),
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
    window.addEventListener("storage", onStorage);
    window.addEventListener("beforeprint", () => blocks.forEach(drawBlock));
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
    for (const mark of ["flagged", "corrected"]) {
      element(mark).addEventListener("click", () => {
        view[mark] = !view[mark];
        setPressed([element(mark)], () => view[mark]);
        filter();
      });
    }
    for (const field of all("[data-rater]")) field.addEventListener("change", () => keepRater(field.value));
    element("who").addEventListener("submit", (event) => {
      event.preventDefault();
      keepRater(element("who").querySelector("input").value);
    });
    element("nobody").addEventListener("click", () => keepRater(""));
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
      const row = event.target.closest("tbody tr[data-id]");
      if (row) select(row.dataset.id);
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
    readRater();
    prepare();
    filter();
    route();
    document.body.dataset.ready = "1";
  }

  document.addEventListener("DOMContentLoaded", () => {
    setTheme(chosenTheme());
    listen();
    measureBars();
    setOverlay({});
    /* A server may let a browser keep files; the list is to be as it is now. */
    load(`list.js?${Date.now()}`, start, start);
  });

  return {
    head,
    row,
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
