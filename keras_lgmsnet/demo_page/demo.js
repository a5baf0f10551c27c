// Segments a picture with the exported network, in this browser: the picture goes nowhere.

const TIMED_RUNS = 10;
const OVERLAY_SIDE = 2048; // the longest; more than a screen shows, less than a phone's memory
// That of the report and the overlays of lgms-predict first.
const COLORS = ["#ffb300", "#00e5ff", "#ff4fa3", "#7cff4f", "#b388ff", "#ff7043"];
const FILL = 0.18; // so that the colours of what is filled can still be judged

const element = (id) => document.getElementById(id);
const file = element("file");
const threshold = element("threshold");
const model = element("model");

let runtime; // {litert, description, threads}
let network; // {compiled, input, output, classes}
let running = Promise.resolve(); // the network's last run
// {blob, maps, size, classes}: a picture, the probabilities by class and the size of its overlay
let shown;
let turn = 0; // which picture is the newest: what an older one still computes is dropped

start().catch(failLoading);

async function start() {
  const litert = await import("@litertjs/core");
  const description = await (await fetched("export.json")).json();
  // Threads need a page that is isolated from other origins, see keras_lgmsnet.demo.serve.
  const threads =
    self.crossOriginIsolated &&
    navigator.hardwareConcurrency > 1 &&
    (await litert.supportsFeature("relaxedSimd")) &&
    (await litert.supportsFeature("threads"));
  await litert.loadLiteRt(new URL("litertjs/core/wasm/", document.baseURI).href, { threads });
  runtime = { litert, description, threads };

  const files = Object.entries(description.files).filter(([, { format }]) => format === "tflite");
  model.replaceChildren(...files.map(([path, { precision }]) => new Option(precision, path)));
  element("models").hidden = files.length < 2;
  const { name, threshold: least } = description.output;
  setThreshold(name === "logits" ? sigmoid(least) : least);
  await load();
}

/** Load the model that is chosen, and segment the picture, if there is one, with it. */
async function load() {
  const { litert, description, threads } = runtime;
  turn++; // whatever runs on the former model
  file.disabled = model.disabled = true;
  element("status").textContent = "Loading the network …";
  const bytes = new Uint8Array(await (await fetched(model.value)).arrayBuffer());
  await running.catch(() => {}); // on the former model; whoever waits for it is told
  network?.compiled.delete();
  network = undefined;
  const compiled = await litert.loadAndCompile(bytes, { accelerator: "wasm" });
  const [input] = compiled.getInputDetails();
  const [output] = compiled.getOutputDetails();
  const classes = description.classes
    .slice(0, output.shape.at(-1))
    .map((name, index) => ({ name, color: COLORS[index % COLORS.length] }));
  network = { compiled, input, output, classes };
  element("network").textContent =
    `Network: ${input.shape[2]} × ${input.shape[1]} pixels, ` +
    `${(bytes.length / 1e6).toFixed(1)} MB, on LiteRT.js with ` +
    `${threads ? `up to ${navigator.hardwareConcurrency} threads` : "one thread"}.`;
  element("status").textContent = "Ready.";
  file.disabled = model.disabled = false;
  // A file chosen before the page was reloaded counts, too, which some browsers keep.
  const picture = shown?.blob ?? file.files[0];
  if (picture) await segment(picture);
}

async function fetched(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path} is not there (status ${response.status}).`);
  return response;
}

async function segment(blob) {
  const mine = ++turn;
  element("error").hidden = true;
  element("status").textContent = `Segmenting ${blob.name} …`;
  try {
    const { input } = network;
    const bitmap = await decoded(blob);
    await painted(); // the status
    if (mine !== turn) return;
    const pixels = resized(bitmap, input.shape[1], input.shape[2]);
    const { width, height } = bitmap;
    bitmap.close();
    const first = await run(pixels);
    if (mine !== turn) return;
    await show(blob, first.output, width, height);
    if (mine !== turn) return;
    element("first").textContent = milliseconds(first.time);
    element("median").textContent = "…";
    element("status").textContent = `Timing ${TIMED_RUNS} more runs …`;
    const times = [];
    while (times.length < TIMED_RUNS) {
      await painted(); // so that the slider answers meanwhile
      if (mine !== turn) return;
      times.push((await run(pixels)).time);
    }
    times.sort((a, b) => a - b);
    const middle = TIMED_RUNS / 2;
    element("median").textContent = milliseconds((times[middle - 1] + times[middle]) / 2);
    element("status").textContent = `Done: timed over ${TIMED_RUNS} runs.`;
  } catch (error) {
    if (mine !== turn) return;
    element("controls").hidden = element("result").hidden = true; // those of another picture
    shown = undefined;
    fail(sentence(error));
  }
}

/** Decode upright, with the file's own values: training does not look at colour profiles either. */
async function decoded(blob) {
  try {
    return await createImageBitmap(blob, {
      imageOrientation: "from-image",
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
    });
  } catch {
    throw new Error(
      `${blob.name} cannot be read as a picture: choose a PNG, JPEG, WebP, GIF or BMP file.`,
    );
  }
}

/**
 * Resize to RGB as for training: linearly between the centres of pixels, without smoothing, in the
 * fixed-point arithmetic of OpenCV, so that the network is fed the very same values.
 */
function resized(bitmap, height, width) {
  // Two rows at a time: a phone's canvas does not hold a whole photograph.
  const numRows = Math.min(2, bitmap.height);
  const strip = document.createElement("canvas");
  [strip.width, strip.height] = [bitmap.width, numRows];
  const context = strip.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  const columns = Array.from({ length: width }, (_, x) => between(x, width, bitmap.width));
  const pixels = new Uint8Array(height * width * 3);
  for (let y = 0, at = 0; y < height; y++) {
    const { before, share: down } = between(y, height, bitmap.height);
    const size = [bitmap.width, numRows];
    context.clearRect(0, 0, ...size);
    context.drawImage(bitmap, 0, before, ...size, 0, 0, ...size);
    const rows = context.getImageData(0, 0, ...size).data;
    const below = numRows > 1 ? 4 * bitmap.width : 0;
    const [upper, lower] = weights(down);
    for (const { before: column, share: right } of columns) {
      const [nearer, farther] = weights(right);
      const left = 4 * column;
      const next = bitmap.width > 1 ? 4 : 0;
      const alphas = [left, left + next, below + left, below + left + next].map((at) => rows[at + 3]);
      if (Math.min(...alphas) < 255) {
        throw new Error("The picture is transparent in places: save it without transparency.");
      }
      for (let channel = left; channel < left + 3; channel++) {
        const above = nearer * rows[channel] + farther * rows[channel + next];
        const beneath = nearer * rows[below + channel] + farther * rows[below + channel + next];
        pixels[at++] =
          (((upper * (above >> 4)) >> 16) + ((lower * (beneath >> 4)) >> 16) + 2) >> 2;
      }
    }
  }
  return pixels;
}

/** Between which two of `from` pixels the centre of one of `to` pixels lies, and where. */
function between(index, to, from) {
  const position = Math.fround(Math.min(Math.max((index + 0.5) * (from / to) - 0.5, 0), from - 1));
  const before = Math.max(0, Math.min(Math.floor(position), from - 2));
  return { before, share: position - before };
}

/** The weights of both pixels, of 11 bits. */
const weights = (share) => [Math.round((1 - share) * 2048), Math.round(share * 2048)];

function run(pixels) {
  running = compute(pixels);
  return running;
}

async function compute(pixels) {
  const { compiled, input } = network;
  const begin = performance.now();
  const image = new runtime.litert.Tensor(pixels, [...input.shape]);
  try {
    const [result] = await compiled.run([image]);
    const output = await result.data();
    const time = performance.now() - begin;
    result.delete();
    return { output, time };
  } finally {
    image.delete();
  }
}

async function show(blob, values, width, height) {
  const { output, classes } = network;
  if (!values.every(Number.isFinite)) {
    throw new Error("The network returned numbers that are not finite.");
  }
  const [, rows, columns, numClasses] = output.shape;
  const scale = Math.min(1, OVERLAY_SIDE / Math.max(width, height));
  const size = [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
  const probability =
    runtime.description.output.name === "logits" ? sigmoid : (value) => value;
  const maps = classes.map((_, channel) => {
    const map = Float32Array.from({ length: rows * columns }, (_, at) =>
      probability(values[at * numClasses + channel]),
    );
    return enlarged(map, rows, columns, ...size);
  });

  const picture = element("picture");
  const address = URL.createObjectURL(blob);
  const former = picture.src;
  picture.src = address;
  await picture.decode();
  if (former) URL.revokeObjectURL(former);
  const overlay = element("overlay");
  [overlay.width, overlay.height] = size;
  overlay.parentElement.style.setProperty("--ratio", width / height);
  shown = { blob, maps, size, classes };
  element("caption").textContent = `${blob.name}, ${width} × ${height} pixels`;
  element("controls").hidden = element("result").hidden = false;
  draw();
}

/** Enlarge a map linearly to the picture, as lgms-predict does. */
function enlarged(map, rows, columns, width, height) {
  const across = Array.from({ length: width }, (_, x) => between(x, width, columns));
  const result = new Float32Array(width * height);
  for (let y = 0, at = 0; y < height; y++) {
    const { before, share: down } = between(y, height, rows);
    const upper = before * columns;
    const lower = Math.min(before + 1, rows - 1) * columns;
    for (let x = 0; x < width; x++) {
      const { before: left, share: right } = across[x];
      const next = Math.min(left + 1, columns - 1);
      const above = map[upper + left] + right * (map[upper + next] - map[upper + left]);
      const beneath = map[lower + left] + right * (map[lower + next] - map[lower + left]);
      result[at++] = above + down * (beneath - above);
    }
  }
  return result;
}

/** Draw every class, filled translucently and outlined, at the threshold of the slider. */
function draw() {
  const { maps, size, classes } = shown;
  const [width, height] = size;
  const context = element("overlay").getContext("2d");
  context.clearRect(0, 0, width, height);
  const thickness = Math.max(1, Math.round(Math.max(width, height) / 400));
  const shares = classes.map(({ color }, index) => {
    const { mask, count } = maskOf(maps[index], color, width, height);
    context.globalAlpha = FILL;
    context.drawImage(mask, 0, 0);
    context.globalAlpha = 1;
    context.drawImage(outlineOf(mask, thickness), 0, 0);
    return count / (width * height);
  });
  const items = classes.map(({ name, color }, index) => {
    const item = document.createElement("li");
    item.append(swatch(color), `${name}: ${percent(shares[index])} of the picture`);
    return item;
  });
  element("classes").replaceChildren(...items);
  element("overlay").setAttribute(
    "aria-label",
    `Segmentation: ${items.map((item) => item.textContent).join(", ")}`,
  );
}

function maskOf(map, color, width, height) {
  const mask = canvasOf(width, height);
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer); // bytes in the order red, green, blue, alpha
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  const rgba = new Uint32Array(new Uint8Array([red, green, blue, 255]).buffer)[0];
  const least = Number(threshold.value);
  let count = 0;
  for (let at = 0; at < map.length; at++) {
    if (map[at] > least) {
      pixels[at] = rgba;
      count++;
    }
  }
  mask.getContext("2d").putImageData(image, 0, 0);
  return { mask, count };
}

/** The mask without what stays inside it when it is moved to and fro. */
function outlineOf(mask, thickness) {
  const inside = canvasOf(mask.width, mask.height);
  const context = inside.getContext("2d");
  context.drawImage(mask, 0, 0);
  context.globalCompositeOperation = "destination-in";
  const diagonal = Math.round(thickness * Math.SQRT1_2);
  for (const [x, y] of [[thickness, 0], [0, thickness], [diagonal, diagonal], [diagonal, -diagonal]]) {
    context.drawImage(mask, x, y);
    context.drawImage(mask, -x, -y);
  }
  const outline = canvasOf(mask.width, mask.height);
  const drawing = outline.getContext("2d");
  drawing.drawImage(mask, 0, 0);
  drawing.globalCompositeOperation = "destination-out";
  drawing.drawImage(inside, 0, 0);
  return outline;
}

function canvasOf(width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  return canvas;
}

function swatch(color) {
  const canvas = canvasOf(24, 14);
  const context = canvas.getContext("2d");
  context.strokeStyle = context.fillStyle = color;
  context.globalAlpha = FILL;
  context.fillRect(0, 0, 24, 14);
  context.globalAlpha = 1;
  context.lineWidth = 4;
  context.strokeRect(0, 0, 24, 14);
  return canvas;
}

function setThreshold(value) {
  threshold.value = value;
  element("threshold-value").textContent = Number(threshold.value).toFixed(2);
}

const sigmoid = (logit) => 1 / (1 + Math.exp(-logit));
const percent = (share) => (share && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`);
const milliseconds = (time) => `${time.toFixed(time < 10 ? 1 : 0)} ms`;
const painted = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
const sentence = (error) => String(error?.message ?? error).split("\n")[0];

function failLoading(error) {
  model.disabled = false;
  // What the former network found is not what the chosen one would.
  element("controls").hidden = element("result").hidden = true;
  fail(`The network could not be loaded: ${sentence(error)}`);
}

function fail(text) {
  element("status").textContent = "";
  element("error").textContent = text;
  element("error").hidden = false;
}

file.addEventListener("change", () => {
  if (file.files.length) segment(file.files[0]);
  file.value = ""; // so that the same file can be chosen again
});
model.addEventListener("change", () => load().catch(failLoading));
threshold.addEventListener("input", () => {
  setThreshold(threshold.value);
  draw();
});
element("shown").addEventListener("change", ({ target }) => {
  element("overlay").hidden = !target.checked;
});
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dragging", name === "dragenter" || name === "dragover");
  });
}
addEventListener("drop", ({ dataTransfer }) => {
  if (file.disabled) return;
  if (dataTransfer.files.length) segment(dataTransfer.files[0]);
  else fail("What was dropped is not a file: drop a picture from a folder.");
});
