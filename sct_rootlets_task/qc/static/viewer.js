"use strict";

/* The volume of the opened image in NiiVue. Script and volume are fetched only when the viewer
   comes into sight, so that going through the list stays quick. */

(() => {
  const element = (id) => document.getElementById(id);
  const say = (text) => { element("viewer-state").textContent = text; };
  const SLICES = "slices";
  /* Axial, coronal, sagittal from left to right. */
  const LAYOUT = [0, 1, 2].map((sliceType) => ({ sliceType, position: [sliceType / 3, 0, 1 / 3, 1] }));
  const state = { id: null, asked: null, shown: null, nv: null, inSight: false, view: SLICES, smooth: false, opacity: 0.8, target: null };

  /* Only for the values present: NiiVue lets greater ones overwrite the greatest present. */
  function colourMap(values) {
    const table = { R: [0], G: [0], B: [0], A: [0], I: [0], labels: [""] };
    for (const value of values) {
      const { name, colour } = QC.colours[value];
      table.R.push(colour[0]); table.G.push(colour[1]); table.B.push(colour[2]);
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
      textHeight: 0.02,
      fontColor: [0.55, 0.58, 0.64, 1],
      logLevel: "error",
      loadingText: "",
    });
    /* NiiVue's own fails on thick slices. */
    nv.createOnLocationChange = () => tell(nv);
    await nv.attachToCanvas(element("canvas"));
    return nv;
  }

  function tell(nv) {
    if (!state.shown) return;
    const numbers = (text) => text.split(" ").map(Number);
    const { offset, step } = element("volume-facts").dataset;
    const [, labels] = nv.volumes;
    const mm = [...nv.frac2mm(nv.scene.crosshairPos)].slice(0, 3);
    const vox = [...nv.volumes[0].mm2vox(mm)];
    const slice = vox[2] * numbers(step)[2] + numbers(offset)[2];
    const level = labels ? Math.round(labels.getValue(...vox)) : 0;
    const name = level ? ` · ${QC.colours[level].name}` : "";
    element("place").textContent = `slice ${slice} · ${mm.map((v) => v.toFixed(1)).join(", ")} mm${name}`;
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
      labels.setColormapLabel(colourMap(values));
      nv.addVolume(labels);
    }
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
    if (slices) nv.setCustomLayout(LAYOUT);
    else nv.clearCustomLayout();
    nv.updateGLVolume();
  }

  function moveTo(mm) {
    const { nv } = state;
    nv.scene.crosshairPos = nv.mm2frac(mm);
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
    element("place").textContent = "";
    say("");
  });
  const placeOf = (tile) => tile.dataset.mm.split(" ").map(Number);
  QC.on("open", (id) => {
    state.id = id;
    const tiles = [...document.querySelectorAll(".tile")];
    state.target = placeOf(tiles[Math.floor(tiles.length / 2)]);
    const whole = element("volume-facts").dataset.whole;
    element("place").textContent = whole ? "" : "cut to the surroundings of the cord";
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
