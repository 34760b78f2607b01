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
    const { id, ok, result, error } = answerOf(text);
    const waiting = id === undefined ? undefined : this.#waiting.get(id);
    const failure = new CodedError(error?.code ?? 'EPROTO', error?.message ?? NO_ANSWER);
    if (id === undefined || waiting === undefined) {
      // To no command of ours: what comes after it means nothing either.
      this.#fail(failure);
      this.#socket.destroy();
      return;
    }
    this.#waiting.delete(id);
    if (ok) waiting.resolve(result);
    else waiting.reject(failure);
  }

  #fail(error: Error): void {
    const failure = error instanceof CodedError ? error : new CodedError('EIO', messageOf(error), { cause: error });
    for (const waiting of this.#waiting.values()) waiting.reject(failure);
    this.#waiting.clear();
  }
}

const NO_ANSWER = 'what came is no answer of a control socket: is it the one that powercut serve was given?';

interface Answer {
  readonly id: number | undefined;
  readonly ok: boolean;
  readonly result: Readonly<Record<string, unknown>>;
  readonly error: { readonly code: ErrorCode; readonly message: string } | undefined;
}

/** Whatever the other side sends. */
function answerOf(text: string): Answer {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // No answer.
  }
  const { id, ok, result = {}, error } = isRecord(value) ? value : {};
  const isWhole = isRecord(error) && typeof error['code'] === 'string' && typeof error['message'] === 'string';
  return {
    id: typeof id === 'number' ? id : undefined,
    ok: ok === true && isRecord(result),
    result: isRecord(result) ? result : {},
    error: isWhole ? { code: error['code'] as ErrorCode, message: error['message'] as string } : undefined,
  };
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
