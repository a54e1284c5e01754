// A point between walls: its step is a file of ONNX, its picture is seen from above.
import { Differences, row, session } from "./onnx.mjs";
import { act, agentOf, noMemory } from "./policy.mjs";

const LONGEST_TRAIL = 60;

export class Task {
  static async open(load, content) {
    return new Task(content, await session(await load("task.onnx")));
  }

  constructor(content, step) {
    Object.assign(this, { content, session: step });
  }

  /** A new episode. */
  async begin() {
    const { starts } = this.content;
    return { observation: starts[Math.floor(Math.random() * starts.length)], trail: [] };
  }

  /** One step of `episode`: what it was worth. */
  async step(episode, action) {
    const moved = await this.after(episode.observation, action);
    episode.trail = [...episode.trail, episode.observation].slice(-LONGEST_TRAIL);
    episode.observation = moved.next;
    return { reward: moved.reward, success: moved.success, over: moved.terminated > 0 };
  }

  async after(state, action) {
    const said = await this.session.run({ state: row(state), action: row(action) });
    const [reward, terminated, success] = ["reward", "terminated", "success"].map((name) => said[name].data[0]);
    return { next: Array.from(said.next.data), reward, terminated, success };
  }

  /** How far this is from the recorded steps of the run, at most. */
  async compare(player) {
    const { content } = this;
    const recorded = content.rehearsal;
    const far = new Differences("actions", "task");
    let steps = 0;
    for (const [k, agent] of recorded.agents.entries()) {
      let memory = noMemory(content);
      for (let t = 0; t < recorded.done.length; t++) {
        const said = await act(player, recorded.state[t][k], agentOf(content, agent), memory);
        far.noteAll("actions", said.action, recorded.action[t][k]);
        const moved = await this.after(recorded.state[t][k], recorded.action[t][k]);
        far.noteAll("task", moved.next, recorded.next[t][k]);
        for (const name of ["reward", "terminated", "success"]) far.note("task", moved[name], recorded[name][t][k]);
        memory = recorded.done[t][k] ? noMemory(content) : said.memory;
        steps++;
      }
    }
    return { steps, ...far };
  }

  draw(canvas, episode) {
    const pen = canvas.getContext("2d"), { place } = this.content;
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
    const { trail, observation } = episode;
    trail.forEach((point, k) => disc(point, 0.5 * place.radius, rgb(place.trail, 1 - 0.8 * (trail.length - k) / LONGEST_TRAIL)));
    disc(observation, place.radius, rgb(place.body));
  }
}
