"use strict";
// Lengths that a scale bar may have, in µm.
const LENGTHS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000];

function makeViewer(viewer) {
  const layers = viewer.querySelector(".layers");
  const width = parseFloat(layers.style.width), height = parseFloat(layers.style.height);
  const mpp = parseFloat(viewer.dataset.mpp);
  let scale = 1, x = 0, y = 0;

  function place() {
    layers.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    const length = LENGTHS.filter(one => one / mpp * scale < viewer.clientWidth / 4).pop() || LENGTHS[0];
    const bar = viewer.querySelector(".scale");
    bar.style.width = `${length / mpp * scale}px`;
    bar.firstElementChild.textContent = length < 1000 ? `${length} µm` : `${length / 1000} mm`;
  }
  function whole() {
    scale = Math.min(viewer.clientWidth / width, viewer.clientHeight / height);
    x = (viewer.clientWidth - scale * width) / 2;
    y = (viewer.clientHeight - scale * height) / 2;
    place();
  }
  function zoom(factor, atX, atY) {
    const next = Math.min(32, Math.max(0.02, scale * factor));
    x = atX - (atX - x) * next / scale;
    y = atY - (atY - y) * next / scale;
    scale = next;
    place();
  }
  viewer.addEventListener("wheel", event => {
    event.preventDefault();
    const box = viewer.getBoundingClientRect();
    zoom(event.deltaY < 0 ? 1.25 : 0.8, event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  viewer.addEventListener("pointerdown", event => {
    if (event.target.tagName !== "BUTTON") viewer.setPointerCapture(event.pointerId);
  });
  viewer.addEventListener("pointermove", event => {
    if (!viewer.hasPointerCapture(event.pointerId)) return;
    x += event.movementX;
    y += event.movementY;
    place();
  });
  function step(factor) {
    if (factor === 0) whole(); else zoom(factor, viewer.clientWidth / 2, viewer.clientHeight / 2);
  }
  for (const button of viewer.querySelectorAll("button"))
    button.addEventListener("click", () => step(parseFloat(button.dataset.zoom)));
  viewer.addEventListener("keydown", event => {
    const factors = { "+": 1.5, "-": 0.667, "0": 0 };
    if (event.key in factors) step(factors[event.key]);
  });
  whole();
}

function makeLayer(canvas, areas) {
  const palette = JSON.parse(canvas.dataset.palette);
  const boxes = [...areas.querySelectorAll("input[type=checkbox]")];
  const names = Object.keys(palette);
  const image = new Image();
  image.onload = () => {
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const labels = context.getImageData(0, 0, canvas.width, canvas.height).data.filter((_, place) => place % 4 === 0);
    function draw() {
      const shown = new Set(names.filter((_, number) => boxes[number].checked).map(Number));
      const drawn = context.createImageData(canvas.width, canvas.height);
      labels.forEach((label, place) => {
        if (!shown.has(label)) return;
        drawn.data.set(palette[label], 4 * place);
        drawn.data[4 * place + 3] = 255;
      });
      context.putImageData(drawn, 0, 0);
      canvas.dataset.drawn = shown.size;
    }
    boxes.forEach(box => box.addEventListener("change", draw));
    draw();
  };
  image.src = canvas.dataset.labels;
  const opacity = areas.querySelector("input[type=range]");
  opacity.addEventListener("input", () => { canvas.style.opacity = opacity.value / 100; });
}

for (const slide of document.querySelectorAll(".slide")) {
  const viewer = slide.querySelector(".viewer"), canvas = slide.querySelector("canvas");
  if (viewer) makeViewer(viewer);
  if (canvas) makeLayer(canvas, slide.querySelector(".areas"));
}
