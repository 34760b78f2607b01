import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const COMMAND = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));

/** The server as its operator runs it, in a process of its own. */
export class ServerProcess {
  #child;
  #args;
  /** What it said last, for a failure. */
  #said = [];

  constructor(args) {
    this.#args = args;
  }

  /** Starts it. @returns what it said of itself, once it serves */
  async start() {
    this.#child = spawn(process.execPath, [COMMAND, 'statefsd', ...this.#args, '--json'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child.stderr.on('data', (text) => this.#said.push(String(text)));
    const lines = createInterface({ input: this.#child.stdout });
    const ready = new Promise((resolve, reject) => {
      lines.on('line', (line) => {
        const event = JSON.parse(line);
        this.#said.push(line);
        if (event.event === 'ready') resolve(event);
      });
      this.#child.once('exit', (code, signal) =>
        reject(new Error(`the server ended (${signal ?? code}) before it served: ${this.#said.slice(-5).join('\n')}`)),
      );
    });
    return ready;
  }

  get isRunning() {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Ends it with a signal. @returns its exit code, null where the signal killed it */
  async end(signal) {
    if (!this.isRunning) throw new Error(`the server had ended on its own: ${this.#said.slice(-5).join('\n')}`);
    const exited = once(this.#child, 'exit');
    this.#child.kill(signal);
    const [code] = await exited;
    return code;
  }
}
