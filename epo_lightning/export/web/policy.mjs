// The policy, and who acts.
import { floats, row, session, whole } from "./onnx.mjs";

/** Reads a page's files by `load(name)`, which gives the bytes of one. */
export async function open(load) {
  const content = JSON.parse(new TextDecoder().decode(await load("page.json")));
  return { content, policy: await session(await load("policy.onnx")) };
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
  const feeds = { observation: row(observation), ...memory };
  if (content.who?.name === "gene") feeds.gene = row(who);
  if (content.who?.name === "agent") feeds.agent = whole(who);
  const said = await policy.run(feeds);
  const after = Object.fromEntries(content.memory.map(({ input, output }) => [input, said[output]]));
  return { action: Array.from(said.action.data), memory: after };
}
