import { connect, type Socket } from 'node:net';
import { CodedError, type ErrorCode, messageOf } from '../../core/index.ts';
import { LineSplitter } from './lines.ts';

interface Waiting {
  resolve(result: Readonly<Record<string, unknown>>): void;
  reject(error: Error): void;
}

/** A client of the control socket. Commands may be sent without waiting for the answers to those before. */
export class ControlClient {
  readonly #socket: Socket;
  readonly #waiting = new Map<number, Waiting>();
  readonly #splitter = new LineSplitter();
  #nextId = 1;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => {
      const lines = this.#splitter.push(chunk);
      if (lines === undefined) socket.destroy(new Error('an answer is too long'));
      else for (const text of lines) this.#answered(text);
    });
    socket.on('error', (error) => this.#fail(error));
    socket.on('close', () => this.#fail(new Error('the server closed the connection')));
  }

  /** @throws CodedError ENOENT where nobody listens */
  static connect(path: string): Promise<ControlClient> {
    return new Promise((resolve, reject) => {
      const socket = connect({ path });
      const onError = (cause: Error): void =>
        reject(
          new CodedError('ENOENT', `${path}: no server listens there (${cause.message}): is --control the same?`, {
            cause,
          }),
        );
      socket.once('error', onError);
      socket.once('connect', () => {
        socket.removeListener('error', onError);
        resolve(new ControlClient(socket));
      });
    });
  }

  /**
   * Sends a command.
   * @returns its result
   * @throws CodedError with the server's code and message
   */
  send(command: string, fields: Readonly<Record<string, unknown>> = {}): Promise<Readonly<Record<string, unknown>>> {
    return new Promise((resolve, reject) => {
      const id = this.#nextId++;
      this.#waiting.set(id, { resolve, reject });
      this.#socket.write(`${JSON.stringify({ id, command, ...fields })}\n`);
    });
  }

  close(): void {
    this.#socket.end();
  }

  #answered(text: string): void {
    const { id, ok, result, error } = JSON.parse(text) as {
      id?: number;
      ok: boolean;
      result?: Readonly<Record<string, unknown>>;
      error?: { code: ErrorCode; message: string };
    };
    const waiting = id === undefined ? undefined : this.#waiting.get(id);
    const failure = new CodedError(error?.code ?? 'EPROTO', error?.message ?? 'the answer says nothing');
    if (waiting === undefined) {
      this.#fail(failure);
      return;
    }
    this.#waiting.delete(id as number);
    if (ok) waiting.resolve(result ?? {});
    else waiting.reject(failure);
  }

  #fail(error: Error): void {
    const failure = error instanceof CodedError ? error : new CodedError('EIO', messageOf(error), { cause: error });
    for (const waiting of this.#waiting.values()) waiting.reject(failure);
    this.#waiting.clear();
  }
}
