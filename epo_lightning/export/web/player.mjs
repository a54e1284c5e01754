// The policy and the step of its task, both by onnxruntime; nothing here knows what they compute.
import * as ort from "./ort.wasm.min.mjs";

ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = new URL("./", import.meta.url).href;

const floats = (values, shape) => new ort.Tensor("float32", Float32Array.from(values), shape);

/** Reads a page's files by `load(name)`, which gives the bytes of one. */
export async function open(load) {
  const content = JSON.parse(new TextDecoder().decode(await load("page.json")));
  const session = async (name) => ort.InferenceSession.create(new Uint8Array(await load(name)));
  return { content, policy: await session("policy.onnx"), task: await session("task.onnx") };
}

/** What the input `who` is for an agent: its gene, or its number. */
export const agentOf = (content, agent) => (content.who ? [content.who.values[agent]].flat() : null);

/** Between two genes: `share` in [0, 1] of the second one. */
export const blend = (gene, other, share) => gene.map((value, k) => (1 - share) * value + share * other[k]);

/** Zeros, where an episode begins. */
export const noMemory = (content) =>
  Object.fromEntries(content.memory.map(({ input, shape }) => [input, floats(new Float32Array(shape[0]), [1, ...shape])]));

/** The action for one observation, and the memory after it. */
export async function act({ content, policy }, observation, who, memory) {
  const feeds = { observation: floats(observation, [1, observation.length]), ...memory };
  if (content.who?.name === "gene") feeds.gene = floats(who, [1, who.length]);
  if (content.who?.name === "agent") feeds.agent = new ort.Tensor("int64", BigInt64Array.from(who.map(BigInt)), [1]);
  const said = await policy.run(feeds);
  const after = Object.fromEntries(content.memory.map(({ input, output }) => [input, said[output]]));
  return { action: Array.from(said.action.data), memory: after };
}

/** One step of the task. */
export async function step({ task }, state, action) {
  const said = await task.run({ state: floats(state, [1, state.length]), action: floats(action, [1, action.length]) });
  const [reward, terminated, success] = ["reward", "terminated", "success"].map((name) => said[name].data[0]);
  return { next: Array.from(said.next.data), reward, terminated, success };
}

/** How far this is from the recorded steps of the run, at most; NaN counts as infinitely far. */
export async function compare(player) {
  const { content } = player;
  const recorded = content.rehearsal;
  const far = { steps: 0, actions: 0, task: 0 };
  const note = (name, value, wanted) => {
    const off = Math.abs(value - wanted);
    far[name] = Math.max(far[name], Number.isNaN(off) ? Number.MAX_VALUE : off);
  };
  for (const [row, agent] of recorded.agents.entries()) {
    let memory = noMemory(content);
    for (let t = 0; t < recorded.done.length; t++) {
      const said = await act(player, recorded.state[t][row], agentOf(content, agent), memory);
      said.action.forEach((value, k) => note("actions", value, recorded.action[t][row][k]));
      const moved = await step(player, recorded.state[t][row], recorded.action[t][row]);
      moved.next.forEach((value, k) => note("task", value, recorded.next[t][row][k]));
      for (const name of ["reward", "terminated", "success"]) note("task", moved[name], recorded[name][t][row]);
      memory = recorded.done[t][row] ? noMemory(content) : said.memory;
      far.steps++;
    }
  }
  return far;
}
