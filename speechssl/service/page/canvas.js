// A canvas that is as sharp as the screen, and its colours.

/** {context, width, height} in pixels of the page; the canvas is cleared. */
export function prepare(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** A colour of the style sheet by its name. */
export function color(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
