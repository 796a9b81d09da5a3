"use strict";

/* The volume of the opened image in NiiVue. Script and volume are fetched only when the viewer
   comes into sight, so that going through the list stays quick. */

(() => {
  const element = (id) => document.getElementById(id);
  const say = (text) => { element("viewer-state").textContent = text; };
  const numbers = (text) => text.split(" ").map(Number);
  const SLICES = "slices";
  /* Axial, coronal, sagittal from left to right. */
  const LAYOUT = [0, 1, 2].map((sliceType) => ({ sliceType, position: [sliceType / 3, 0, 1 / 3, 1] }));
  const state = { id: null, asked: null, shown: null, nv: null, inSight: false, view: SLICES, marked: "", smooth: false, opacity: 0.8, target: null };

  /* Only for the values present: NiiVue lets greater ones overwrite the greatest present. */
  function colorMap(values) {
    const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
    for (const value of values) {
      const { name, color } = QC.colors[value];
      table.R.push(color[0]); table.G.push(color[1]); table.B.push(color[2]);
      table.A.push(255); table.I.push(value); table.labels.push(name);
    }
    return table;
  }

  async function start() {
    const nv = new niivue.Niivue({
      backColor: [0, 0, 0, 1],
      crosshairColor: [0.47, 0.67, 0.87, 0.6],
      crosshairWidthUnit: "mm",
      dragAndDropEnabled: false,
      isRadiologicalConvention: true,
      sagittalNoseLeft: true,
      isOrientCube: false,
      isColorbar: false,
      isRuler: false,
      show3Dcrosshair: true,
      /* The page's own letters are larger and carry a background. */
      isOrientationTextVisible: false,
      logLevel: "error",
      loadingText: "",
    });
    /* NiiVue's own fails on thick slices. */
    nv.createOnLocationChange = () => tell("place", nv.scene.crosshairPos);
    await nv.attachToCanvas(element("canvas"));
    const draw = nv.drawScene.bind(nv);
    nv.drawScene = (...words) => { draw(...words); mark(); };
    element("canvas").addEventListener("pointermove", point);
    element("canvas").addEventListener("pointerleave", () => element("under").replaceChildren());
    return nv;
  }

  /* Voxel of the image's file, whose axes may run otherwise than those of the volume here. As in
     SCT, a letter says where an axis begins. */
  function voxelOf(upright, { orientation, shape }) {
    const sizes = numbers(shape);
    return [...orientation].map((letter, axis) => {
      const place = upright["RLAPSI".indexOf(letter) >> 1];
      return "RAS".includes(letter) ? sizes[axis] - 1 - place : place;
    });
  }

  /* With `true`, NiiVue takes and gives places in the world also where the grid is oblique. */
  function tell(id, fraction) {
    if (!state.shown) return;
    const { nv } = state;
    const facts = element("volume-facts").dataset;
    const [offset, step] = [numbers(facts.offset), numbers(facts.step)];
    const [image, labels] = nv.volumes;
    const mm = [...nv.frac2mm(fraction, 0, true)].slice(0, 3);
    const vox = [...image.mm2vox(mm)];
    const upright = vox.map((index, axis) => index * step[axis] + offset[axis]);
    const level = labels ? Math.round(labels.getValue(...vox)) : 0;
    const words = [
      level ? `(${level})` : "no level",
      `slice ${upright[2]}`,
      `voxel ${voxelOf(upright, facts).join(", ")}`,
      `${mm.map((v) => v.toFixed(1)).join(", ")} mm`,
    ];
    element(id).replaceChildren(...(level ? [pip(level)] : []), words.join(" · "));
  }

  function pip(level) {
    const chip = document.createElement("span");
    chip.className = `pip lv-${level}`;
    chip.textContent = QC.colors[level].name;
    return chip;
  }

  function point({ offsetX, offsetY }) {
    const { nv } = state;
    if (!state.shown || state.view !== SLICES) return;
    const dpr = nv.uiData.dpr || 1;
    const [x, y] = [offsetX * dpr, offsetY * dpr];
    const tile = nv.tileIndex(x, y);
    const fraction = tile < 0 ? [-1] : nv.screenXY2TextureFrac(x, y, tile, false);
    if ([...fraction].every((part) => part >= 0 && part <= 1)) tell("under", fraction);
    else element("under").replaceChildren();
  }

  /* Sides at the left, right, top and bottom of axial, coronal and sagittal slices. */
  const SIDES = ["RLAP", "RLSI", "APSI"];

  /* Letters and a scale bar over each slice. */
  function mark() {
    const { nv } = state;
    const dpr = nv.uiData.dpr || 1;
    const slices = state.view === SLICES && state.shown ? nv.screenSlices : [];
    const places = slices.filter(({ axCorSag }) => axCorSag < 3).map(({ axCorSag, leftTopWidthHeight, fovMM }) => {
      const [left, top, width, height] = [...leftTopWidthHeight].map((part) => part / dpr);
      return { axCorSag, left: Math.min(left, left + width), top, width: Math.abs(width), height, mm: Math.abs(fovMM[0]) };
    });
    const key = JSON.stringify(places);
    if (key === state.marked) return;
    state.marked = key;
    element("marks").replaceChildren(...places.flatMap(marksOf));
  }

  function marksOf({ axCorSag, left, top, width, height, mm }) {
    const [toLeft, toRight, up, down] = SIDES[axCorSag];
    const [middle, half] = [left + width / 2, top + height / 2];
    const letters = [
      letter(toLeft, left + 4, half, "0, -50%"), letter(toRight, left + width - 4, half, "-100%, -50%"),
      letter(up, middle, top + 4, "-50%, 0"), letter(down, middle, top + height - 4, "-50%, -100%"),
    ];
    const frame = document.createElement("span");
    frame.className = "frame";
    place(frame, left, top);
    Object.assign(frame.style, { width: `${width}px`, height: `${height}px` });
    const bar = document.createElement("span");
    bar.className = "scale";
    frame.append(bar);
    QC.setScale(bar, mm);
    return [frame, ...letters];
  }

  function letter(text, left, top, shift) {
    const span = document.createElement("span");
    span.className = "letter";
    span.textContent = text;
    place(span, left, top);
    span.style.transform = `translate(${shift})`;
    return span;
  }

  function place(span, left, top) {
    Object.assign(span.style, { left: `${left}px`, top: `${top}px` });
  }

  async function show(id, data) {
    say("");
    if (!state.nv) state.nv = await start();
    const nv = state.nv;
    while (nv.volumes.length) nv.removeVolumeByIndex(0);
    const make = (text, name) => niivue.NVImage.loadFromBase64({ base64: text, name });
    const image = await make(data.image, "image.nii.gz");
    const labels = await make(data.labels, "levels.nii.gz");
    if (state.id !== id) return;
    nv.addVolume(image);
    const values = [...new Set(labels.img)].filter(Boolean).sort((a, b) => a - b);
    if (values.length) {
      labels.setColormapLabel(colorMap(values));
      nv.addVolume(labels);
    }
    element("legend").replaceChildren(...values.map(pip));
    state.shown = id;
    const lengths = image.dimsRAS.slice(1, 4).map((n, axis) => n * image.pixDimsRAS[axis + 1]);
    nv.opts.crosshairWidth = Math.max(...lengths) / 450;
    /* Given in radii of the line: 7 mm on each side stay free. */
    nv.opts.crosshairGap = 14 / nv.opts.crosshairWidth;
    apply();
    moveTo(state.target);
    element("canvas").dataset.shown = id;
  }

  function apply() {
    const { nv } = state;
    if (!state.shown) return;
    const slices = state.view === SLICES;
    if (nv.volumes[1]) nv.volumes[1].opacity = state.opacity;
    nv.volumes[0].opacity = slices ? 1 : 0.35;
    nv.opts.show3Dcrosshair = slices;
    nv.setInterpolation(!state.smooth);
    nv.setSliceType(slices ? nv.sliceTypeMultiplanar : nv.sliceTypeRender);
    element("under").replaceChildren();
    if (slices) nv.setCustomLayout(LAYOUT);
    else nv.clearCustomLayout();
    nv.updateGLVolume();
  }

  function moveTo(mm) {
    const { nv } = state;
    nv.scene.crosshairPos = nv.mm2frac(mm, 0, true);
    nv.createOnLocationChange();
    nv.drawScene();
  }

  function request() {
    const { id } = state;
    if (!state.inSight || !id || state.asked === id) return;
    state.asked = id;
    say("Loading the volume …");
    const failed = () => say("The volume of this image is not in the report's folder.");
    QC.volume = (owner, data) => {
      if (owner === state.id) show(owner, data).catch((error) => say(`The volume cannot be shown here: ${error.message || error}`));
    };
    const volume = () => QC.load(`entries/${id}/volume.js`, failed);
    if (typeof niivue === "undefined") QC.load("static/niivue.umd.js", failed, volume);
    else volume();
  }

  function press(buttons, test) {
    for (const button of buttons) button.setAttribute("aria-pressed", String(test(button)));
  }

  QC.on("close", () => {
    Object.assign(state, { id: null, asked: null, shown: null });
    for (const part of ["place", "under", "legend", "marks"]) element(part).replaceChildren();
    state.marked = "";
    say("");
  });
  const placeOf = (tile) => numbers(tile.dataset.mm);
  QC.on("open", (id) => {
    state.id = id;
    const tiles = [...document.querySelectorAll(".tile")];
    state.target = placeOf(tiles[Math.floor(tiles.length / 2)]);
    const whole = element("volume-facts").dataset.whole;
    element("extent").textContent = whole ? "" : "cut to the surroundings of the cord";
    for (const tile of tiles) {
      tile.addEventListener("click", () => {
        state.target = placeOf(tile);
        element("viewer").scrollIntoView({ block: "start" });
        if (state.shown === state.id) moveTo(state.target);
      });
    }
    request();
  });
  QC.on("overlay", (opacity) => { state.opacity = opacity; apply(); });
  for (const button of document.querySelectorAll("[data-view]")) {
    button.addEventListener("click", () => {
      state.view = button.dataset.view;
      press(document.querySelectorAll("[data-view]"), (other) => other === button);
      apply();
    });
  }
  element("smooth").addEventListener("click", () => {
    state.smooth = !state.smooth;
    press([element("smooth")], () => state.smooth);
    apply();
  });
  new IntersectionObserver((seen) => {
    state.inSight = seen[seen.length - 1].isIntersecting;
    request();
  }).observe(element("viewer"));
})();
