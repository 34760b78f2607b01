import { setMaxListeners } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { CodedError, codeOf, messageOf, systemTimers } from '../../core/index.ts';
import { listen } from '../listen.ts';
import { type Answer, type ControlContext, ControlState, carryOut, type Fields } from './commands.ts';
import { LineSplitter } from './lines.ts';

/** Clients at once: more are turned away. */
const MAX_CLIENTS = 16;
/** Commands of one client that have not been answered; one that sends more is not read until some are. */
const MAX_PENDING = 64;
/** How long a connection that is to end is waited for; a client that does not read would hold it for ever. */
const END_GRACE_MS = 1000;

/**
 * The control socket: a Unix socket, for its owner only, on which each line is a command as a JSON object, and each
 * command gets one line back: `{"id":1,"command":"cut"}`, `{"id":1,"ok":true,"result":{...}}`.
 */
export class ControlServer {
  readonly path: string;
  readonly #server: Server;
  readonly #state: ControlState;
  readonly #clients = new Set<Socket>();

  private constructor(path: string, context: ControlContext) {
    this.path = path;
    this.#state = new ControlState(context);
    this.#server = createServer((socket) => this.#accept(socket));
  }

  /** @throws CodedError EINVAL, EBUSY where it can't listen */
  static async start(
    path: string,
    context: Omit<ControlContext, 'timers'> & Partial<ControlContext>,
  ): Promise<ControlServer> {
    const server = new ControlServer(path, { timers: systemTimers, ...context });
    await listen(server.#server, { path });
    return server;
  }

  /** Ends a trace that runs, and the connections, once their answers have gone. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    for (const client of this.#clients) this.#end(client);
    try {
      this.#state.close();
    } finally {
      await closed;
    }
  }

  #accept(socket: Socket): void {
    socket.on('error', () => undefined);
    if (this.#clients.size >= MAX_CLIENTS) {
      socket.write(line({ ok: false, error: { code: 'EBUSY', message: `there are ${MAX_CLIENTS} clients already` } }));
      this.#end(socket);
      return;
    }
    this.#clients.add(socket);
    const gone = new AbortController();
    // Each command that waits listens.
    setMaxListeners(0, gone.signal);
    socket.on('close', () => {
      this.#clients.delete(socket);
      gone.abort();
    });
    const splitter = new LineSplitter();
    let pending = 0;
    // Nor is one read that does not read.
    const goOnOrWait = (): void => {
      if (pending >= MAX_PENDING || socket.writableNeedDrain) socket.pause();
      else socket.resume();
    };
    socket.on('drain', goOnOrWait);
    socket.on('data', (chunk: Buffer) => {
      const lines = splitter.push(chunk);
      if (lines === undefined) {
        socket.write(line({ ok: false, error: { code: 'E2BIG', message: 'the line is too long' } }));
        this.#end(socket);
        return;
      }
      for (const text of lines.filter((each) => each.trim() !== '')) {
        pending++;
        void this.#answer(text, gone.signal).then((answer) => {
          pending--;
          if (socket.writable) socket.write(line(answer));
          goOnOrWait();
        });
      }
      goOnOrWait();
    });
  }

  /** Ends a connection once what was written to it has gone, or its client has had time enough to take it. */
  #end(socket: Socket): void {
    const cancel = this.#state.context.timers.after(END_GRACE_MS, () => socket.destroy());
    socket.once('close', cancel);
    socket.destroySoon();
  }

  /** Never rejects. */
  async #answer(text: string, gone: AbortSignal): Promise<Answer> {
    let id: unknown;
    try {
      const { id: given, command, ...fields } = parse(text);
      id = given;
      return { ...withId(id), ok: true, result: await carryOut(this.#state, command, fields, gone) };
    } catch (error) {
      return { ...withId(id), ok: false, error: { code: codeOfError(error), message: messageOf(error) } };
    }
  }
}

function parse(text: string): Fields {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new CodedError('EINVAL', `expected a JSON object in a line: ${messageOf(cause)}`, { cause });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  throw new CodedError('EINVAL', 'expected a JSON object in a line, such as {"command":"status"}');
}

function withId(id: unknown): Answer {
  return id === undefined ? {} : { id };
}

function codeOfError(error: unknown): string {
  if (error instanceof TypeError || error instanceof RangeError) return 'EINVAL';
  return codeOf(error) ?? 'EIO';
}

function line(answer: Answer): string {
  return `${JSON.stringify(answer)}\n`;
}
