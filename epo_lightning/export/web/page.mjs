// What is seen and clicked; player.mjs acts.
import { act, agentOf, blend, compare, noMemory, open, step } from "./player.mjs";

const at = (id) => document.getElementById(id);
const message = (text, failed = false) => {
  at("message").textContent = text;
  at("message").hidden = !text;
  at("message").classList.toggle("failed", failed);
};

const load = async (name) => {
  const answer = await fetch(new URL(name, import.meta.url));
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  return answer.arrayBuffer();
};

const LONGEST_TRAIL = 60;
const tally = { episodes: 0, successes: 0, sum: 0 };
let player, content, episode, playing = true;

function whoPlays() {
  const first = agentOf(content, Number(at("first").value));
  if (content.who?.name !== "gene") return first;
  return blend(first, agentOf(content, Number(at("second").value)), at("share").value / 100);
}

function begin() {
  const state = content.starts[Math.floor(Math.random() * content.starts.length)];
  episode = { state, trail: [], memory: noMemory(content), clock: 0, sum: 0, successes: 0, over: false, mixed: false };
}

/** One step of the episode that was there when it began; a new episode is begun where it has ended. */
async function advance() {
  if (episode.over) begin();
  const here = episode;
  const said = await act(player, here.state, whoPlays(), here.memory);
  const moved = await step(player, here.state, said.action);
  if (here !== episode) return; // somebody asked for a new one meanwhile
  here.trail = [...here.trail, here.state].slice(-LONGEST_TRAIL);
  here.state = moved.next;
  here.memory = said.memory;
  here.clock += 1;
  here.sum += moved.reward;
  here.successes += moved.success;
  here.over = moved.terminated > 0 || here.clock >= content.max_steps;
  if (here.over && !here.mixed) {
    tally.episodes += 1;
    tally.successes += here.successes;
    tally.sum += here.sum;
  }
}

function draw() {
  const canvas = at("canvas"), pen = canvas.getContext("2d"), { place } = content;
  const rgb = ([r, g, b], alpha = 1) => `rgba(${r}, ${g}, ${b}, ${alpha})`;
  const edge = 0.02 * (place.high[0] - place.low[0]);
  const span = [0, 1].map((k) => place.high[k] - place.low[k] + 2 * edge);
  const scale = canvas.width / span[0];
  const height = Math.round(scale * span[1]);
  if (canvas.height !== height) canvas.height = height;
  const x = (value) => (value - place.low[0] + edge) * scale;
  const y = (value) => (place.high[1] + edge - value) * scale;
  const disc = (centre, radius, colour) => {
    pen.fillStyle = colour;
    pen.beginPath();
    pen.arc(x(centre[0]), y(centre[1]), radius * scale, 0, 2 * Math.PI);
    pen.fill();
  };
  pen.fillStyle = rgb(place.solid);
  pen.fillRect(0, 0, canvas.width, canvas.height);
  for (const shape of place.shapes) {
    if (shape.disc) disc(shape.disc, shape.disc[2], rgb(shape.colour));
    else {
      const [left, bottom, right, top] = shape.box;
      pen.fillStyle = rgb(shape.colour);
      pen.fillRect(x(left), y(top), (right - left) * scale, (top - bottom) * scale);
    }
  }
  const { trail, state } = episode;
  trail.forEach((point, k) => disc(point, 0.5 * place.radius, rgb(place.trail, 1 - 0.8 * (trail.length - k) / LONGEST_TRAIL)));
  disc(state, place.radius, rgb(place.body));
}

function tell() {
  at("return").textContent = episode.sum.toFixed(2);
  at("step").textContent = `${episode.clock} of ${content.max_steps}`;
  at("episodes").textContent = tally.episodes;
  at("successes").textContent = tally.successes;
  at("mean").textContent = tally.episodes ? (tally.sum / tally.episodes).toFixed(2) : "-";
  at("speed_told").textContent = `${at("speed").value} steps a second`;
  const share = Number(at("share").value);
  at("share_told").textContent = `${100 - share} : ${share}`;
}

/** Somebody else plays on: what was counted is not theirs, nor is all of this episode. */
function change() {
  Object.assign(tally, { episodes: 0, successes: 0, sum: 0 });
  episode.mixed = episode.clock > 0;
  show();
}

function show() {
  draw();
  tell();
}

function setPlaying(wanted) {
  playing = wanted;
  at("play").textContent = playing ? "Pause" : "Play";
}

async function run() {
  let due = performance.now();
  for (;;) {
    await new Promise((ready) => setTimeout(ready, Math.max(0, due - performance.now())));
    due = Math.max(due + 1000 / at("speed").value, performance.now() - 100);
    if (!playing) continue;
    await advance();
    show();
  }
}

function connect() {
  for (const id of ["first", "second"]) {
    content.names.forEach((name, agent) => {
      if (content.who || agent === content.default) at(id).add(new Option(name, agent));
    });
    at(id).value = content.default;
    at(id).addEventListener("change", change);
  }
  at("between").hidden = at("gene_keys").hidden = content.who?.name !== "gene" || content.names.length < 2;
  if (!at("between").hidden) at("second").value = content.rehearsal.agents[1] ?? content.default;
  at("share").addEventListener("input", change);
  at("speed").addEventListener("input", tell);
  at("play").addEventListener("click", () => setPlaying(!playing));
  at("again").addEventListener("click", () => { begin(); show(); });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target instanceof Element && event.target.matches("select, button, input");
    const by = { ",": -5, ".": 5 }[event.key];
    if (event.key === " " && !typing) setPlaying(!playing);
    else if (event.key === "n" && !(typing && event.target.matches("select"))) { begin(); show(); }
    else if (by && !at("between").hidden) {
      at("share").value = Number(at("share").value) + by;
      change();
    } else return;
    event.preventDefault();
  });
}

/** Settings in the address: ?first=0&second=5&share=50&speed=30. */
function addressed() {
  const given = new URLSearchParams(location.search);
  for (const id of ["first", "second", "share", "speed"]) {
    const before = at(id).value;
    if (given.has(id)) at(id).value = given.get(id);
    if (at(id).value === "") at(id).value = before;
  }
}

async function main() {
  player = await open(load);
  content = player.content;
  const { source } = content;
  document.title = at("title").textContent = `${content.task}: a population at play`;
  if (content.names.length < 2) document.title = at("title").textContent = `${content.task}: a policy at play`;
  at("source").textContent =
    `${source.algorithm}, seed ${source.seed}, ${Number(source.env_steps).toLocaleString("en")} environment steps`;
  const far = await compare(player);
  const most = Math.max(far.actions, far.task);
  document.body.dataset.parity = JSON.stringify(far);
  if (!(most <= content.allowed)) {
    throw new Error(`here it acts unlike the run: it differs by ${most.toExponential(1)} in ${far.steps} recorded steps`);
  }
  at("parity").textContent =
    `Compared with the run in this browser: ${far.steps} recorded steps, largest difference ${most.toExponential(1)}.`;
  connect();
  addressed();
  begin();
  message("");
  at("main").hidden = false;
  show();
  await run();
}

main().catch((error) => {
  const local = location.protocol === "file:" ? " Open it by a server: python -m http.server in this folder." : "";
  message(`The page cannot play: ${error.message ?? error}.${local}`, true);
});
