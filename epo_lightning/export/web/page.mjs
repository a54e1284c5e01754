// What is seen and clicked; policy.mjs acts, task.mjs is the task.
import { act, agentOf, blend, noMemory, open } from "./policy.mjs";
import { Task } from "./task.mjs";

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

const tally = { episodes: 0, successes: 0, sum: 0 };
let player, content, task, episode, wanted = false, playing = true;

function whoPlays() {
  const first = agentOf(content, Number(at("first").value));
  if (content.who?.name !== "gene") return first;
  return blend(first, agentOf(content, Number(at("second").value)), at("share").value / 100);
}

async function begin() {
  wanted = false;
  episode = Object.assign(await task.begin(), { policyMemory: noMemory(content), clock: 0, sum: 0, successes: 0, over: false, mixed: false });
}

/** One step; a new episode is begun where the last one has ended, or somebody wants one. */
async function advance() {
  if (episode.over || wanted) await begin();
  const said = await act(player, episode.observation, whoPlays(), episode.policyMemory);
  const moved = await task.step(episode, said.action);
  episode.policyMemory = said.memory;
  episode.clock += 1;
  episode.sum += moved.reward;
  episode.successes += moved.success;
  episode.over = moved.over || episode.clock >= content.max_steps;
  if (episode.over && !episode.mixed) {
    tally.episodes += 1;
    tally.successes += episode.successes;
    tally.sum += episode.sum;
  }
}

function tell() {
  at("return").textContent = episode.sum.toFixed(2);
  at("step").textContent = `${episode.clock} of ${content.max_steps}`;
  at("episodes").textContent = tally.episodes;
  at("successes").textContent = tally.successes + (content.many_successes && !episode.over ? episode.successes : 0);
  at("mean").textContent = tally.episodes ? (tally.sum / tally.episodes).toFixed(2) : "-";
  const speed = Number(at("speed").value), { rate } = content;
  at("speed_told").textContent = `${speed} steps a second${rate ? `, ${Math.round((100 * speed) / rate)} % of real time` : ""}`;
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
  task.draw(at("canvas"), episode);
  tell();
}

function setPlaying(wanted) {
  playing = wanted;
  at("play").textContent = playing ? "Pause" : "Play";
}

const SHOWN_EVERY = 100; // ms at least, where pictures take longer than steps
async function run() {
  let due = performance.now(), shown = due;
  for (;;) {
    await new Promise((ready) => setTimeout(ready, Math.max(0, due - performance.now())));
    due = Math.max(due + 1000 / at("speed").value, performance.now() - 100);
    if (playing) await advance();
    else if (wanted) await begin();
    else continue;
    const now = performance.now();
    if (now > due && now - shown < SHOWN_EVERY) continue;
    show();
    shown = now;
  }
}

function connect() {
  if (content.rate) at("speed").max = at("speed").value = content.rate;
  for (const id of ["first", "second"]) {
    content.names.forEach((name, agent) => {
      if (content.who || agent === content.default) at(id).add(new Option(name, agent));
    });
    at(id).value = content.default;
    at(id).addEventListener("change", change);
  }
  at("between").hidden = at("gene_keys").hidden = content.who?.name !== "gene" || content.names.length < 2;
  if (!at("between").hidden) at("second").value = content.players[1] ?? content.default;
  at("share").addEventListener("input", change);
  at("speed").addEventListener("input", tell);
  at("play").addEventListener("click", () => setPlaying(!playing));
  at("again").addEventListener("click", () => { wanted = true; });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target instanceof Element && event.target.matches("select, button, input");
    const by = { ",": -5, ".": 5 }[event.key];
    if (event.key === " " && !typing) setPlaying(!playing);
    else if (event.key === "n" && !(typing && event.target.matches("select"))) wanted = true;
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
  message("Comparing this page with the run.");
  task = await Task.open(load, content);
  const far = await task.compare(player);
  document.body.dataset.parity = JSON.stringify(far);
  for (const [name, allowed] of Object.entries(content.allowed)) {
    if (!(far[name] <= allowed)) {
      throw new Error(`here it acts unlike the run: ${name} differ by ${far[name].toExponential(1)} in ${far.steps} recorded steps`);
    }
  }
  const most = Math.max(far.actions, far.task);
  const physics = far.physics === undefined ? "" : `; physics of MuJoCo ${far.mujoco}, of the run ${content.mujoco}: ${far.physics.toExponential(1)} in a step`;
  at("parity").textContent =
    `Compared with the run in this browser: ${far.steps} recorded steps, largest difference ${most.toExponential(1)}${physics}.`;
  connect();
  addressed();
  await begin();
  message("");
  at("main").hidden = false;
  show();
  await run();
}

main().catch((error) => {
  const local = location.protocol === "file:" ? " Open it by a server: python -m http.server in this folder." : "";
  message(`The page cannot play: ${error.message ?? error}.${local}`, true);
});
