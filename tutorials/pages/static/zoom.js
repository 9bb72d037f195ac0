"use strict";
// Every picture of a lesson opens by itself, to be enlarged and moved: by wheel and drag, two fingers, keys, or buttons.
document.addEventListener("DOMContentLoaded", () => {
  const dialog = document.createElement("dialog");
  dialog.className = "zoom";
  dialog.setAttribute("aria-label", "The picture, enlarged");
  dialog.innerHTML = `
    <div class="zoom-bar">
      <button type="button" data-do="in" title="larger (+)" aria-label="larger">+</button>
      <button type="button" data-do="out" title="smaller (-)" aria-label="smaller">−</button>
      <button type="button" data-do="fit" title="all of it (0)">fit</button>
      <a target="_blank">open the file</a>
      <button type="button" data-do="close" title="close (Esc)">close</button>
    </div>
    <div class="zoom-stage"><img draggable="false"></div>`;
  document.body.append(dialog);
  const stage = dialog.querySelector(".zoom-stage");
  const image = stage.querySelector("img");
  let [scale, x, y] = [1, 0, 0]; // a point p of the picture is drawn at (x, y) + scale * p

  const draw = () => {
    image.style.width = `${scale * image.naturalWidth}px`; // not by a transformation, which would blur
    image.style.transform = `translate(${x}px, ${y}px)`;
  };
  const fit = () => {
    scale = Math.min(stage.clientWidth / image.naturalWidth, stage.clientHeight / image.naturalHeight, 3);
    x = (stage.clientWidth - scale * image.naturalWidth) / 2;
    y = (stage.clientHeight - scale * image.naturalHeight) / 2;
    draw();
  };
  const zoom = (factor, atX = stage.clientWidth / 2, atY = stage.clientHeight / 2) => {
    const next = Math.min(Math.max(scale * factor, 0.02), 20);
    x = atX - (next / scale) * (atX - x); // what is at (atX, atY) stays there
    y = atY - (next / scale) * (atY - y);
    scale = next;
    draw();
  };
  const move = (dx, dy) => { x += dx; y += dy; draw(); };
  const actions = { in: () => zoom(1.4), out: () => zoom(1 / 1.4), fit, close: () => dialog.close() };

  image.addEventListener("load", fit);
  window.addEventListener("resize", () => dialog.open && fit());
  dialog.addEventListener("click", (event) => actions[event.target.dataset.do]?.());
  dialog.addEventListener("keydown", (event) => {
    const keys = {
      "+": actions.in, "=": actions.in, "-": actions.out, 0: fit,
      ArrowLeft: () => move(60, 0), ArrowRight: () => move(-60, 0), ArrowUp: () => move(0, 60), ArrowDown: () => move(0, -60),
    };
    if (event.ctrlKey || event.metaKey || !(event.key in keys)) return;
    keys[event.key]();
    event.preventDefault();
  });
  stage.addEventListener("wheel", (event) => {
    const box = stage.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY / 400), event.clientX - box.left, event.clientY - box.top);
    event.preventDefault();
  }, { passive: false });

  const fingers = new Map(); // where each finger, or the mouse, is
  const middle = () => {
    const at = [...fingers.values()];
    const box = stage.getBoundingClientRect();
    const [cx, cy] = [0, 1].map((axis) => at.reduce((sum, point) => sum + point[axis], 0) / at.length);
    return [cx - box.left, cy - box.top, at.length > 1 ? Math.hypot(at[0][0] - at[1][0], at[0][1] - at[1][1]) : 1];
  };
  stage.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    const [oldX, oldY, oldSpan] = middle();
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    const [newX, newY, newSpan] = middle();
    move(newX - oldX, newY - oldY);
    zoom(newSpan / oldSpan, newX, newY);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    stage.addEventListener(end, (event) => fingers.delete(event.pointerId));
  }

  for (const picture of document.querySelectorAll(".cell_output img")) {
    const open = () => {
      dialog.querySelector("a").href = image.src = picture.src;
      image.alt = picture.alt;
      dialog.showModal();
    };
    const button = document.createElement("button");
    button.type = "button";
    button.className = "zoom-open";
    button.textContent = "enlarge";
    button.addEventListener("click", open);
    picture.addEventListener("click", open);
    picture.after(button);
  }
});
