// Shows what the grading tells, as it comes, and the report at the end.
const page = document.getElementById("submission");
const state = document.getElementById("state");
const progress = document.getElementById("progress");
const blanks = document.getElementById("blanks");
const grid = document.getElementById("grid");
const cancel = document.getElementById("cancel");
const source = new EventSource(page.dataset.events);

const stageItem = (name) => document.querySelector(`#stages [data-stage="${name}"]`);
const words = { passed: "right", failed: "wrong", not_attempted: "not attempted", skipped: "skipped" };

function showProgress(share, text) {
  progress.hidden = false;
  progress.value = share;
  state.textContent = text;
}

function finish(text) {
  source.close();
  cancel.hidden = true;
  progress.hidden = true;
  state.textContent = text;
}

async function showQueue() {
  const answer = await fetch(page.dataset.self);
  if (!answer.ok) return;
  const { position, seconds_left } = await answer.json();
  if (!position) return;
  const estimate = seconds_left === null ? "" : ` About ${Math.max(1, Math.round(seconds_left / 60))} min.`;
  state.textContent = (position === 1 ? "Next in the queue." : `Number ${position} in the queue.`) + estimate;
}

async function cancelGrading() {
  cancel.disabled = true;
  const answer = await fetch(page.dataset.cancel, { method: "POST" });
  if (!answer.ok) state.textContent = (await answer.json()).detail;
}

const handlers = {
  queued: showQueue,
  started: () => { state.textContent = "A worker has begun."; },
  retrying: () => { state.textContent = "Something of ours failed. It costs you nothing; we try again."; },
  stage_started({ stage }) {
    if (stage === "check") blanks.replaceChildren();  // what an attempt before this one told
    if (stage === "train") grid.hidden = true;
    stageItem(stage).className = "running";
  },
  stage_finished: ({ stage }) => { stageItem(stage).className = "finished"; progress.hidden = true; },
  blank_finished({ blank, outcome }) {
    const item = document.createElement("li");
    item.className = outcome === "passed" ? "passed" : "failed";
    item.textContent = `${blank}: ${words[outcome] ?? outcome.replaceAll("_", " ")}`;
    blanks.append(item);
  },
  training_progress({ images_seen, images_total, seconds_left, loss }) {
    showProgress(images_seen / images_total, `Training: loss ${loss.toFixed(3)}, about ${Math.ceil(seconds_left)} s left.`);
  },
  generation_progress({ images, correct }) {
    state.textContent = `${images} digits generated, ${correct} of them read as asked for.`;
  },
  sample_grid: ({ url }) => { grid.src = url; grid.hidden = false; },
  done() {
    finish("Graded.");
    grid.hidden = true;
    const report = document.getElementById("report");
    report.querySelector("iframe").src = page.dataset.report;
    report.hidden = false;
  },
  rejected: ({ message }) => finish(message),
  faulted: ({ message }) => finish(message),
  cancelled: ({ message }) => finish(message),
};

cancel.addEventListener("click", cancelGrading);
cancel.hidden = false;  // until the grading ends
for (const [type, handle] of Object.entries(handlers)) {
  source.addEventListener(type, (event) => handle(JSON.parse(event.data)));
}
